"""Trains a Keras 3 model on handwritten digits, with `model.fit`.

Prox-SG is added in three lines, marked `# tfslim`: its optimizer makes weights exactly
zero, and their share in each layer says how many channels that layer can lose. What is
written is a smaller, plain Keras 3 model.

  python examples/keras3_fit.py [--epochs=12] [--out=digits.keras]
"""

import argparse

import keras
import numpy as np
from keras import layers
from sklearn import datasets, model_selection

from tfslim import optimizers, prune_channels, ratios_from_sparsity  # tfslim


def load_digits():
    digits = datasets.load_digits()
    images = (digits.images[..., None] / 16).astype(np.float32)
    return model_selection.train_test_split(
        images, digits.target, test_size=0.25, random_state=0
    )


def build_model():
    image = layers.Input((8, 8, 1))
    x = layers.Conv2D(64, 3, padding="same", activation="relu")(image)
    x = layers.MaxPooling2D()(x)
    y = layers.Conv2D(128, 3, padding="same", activation="relu")(x)
    y = layers.Conv2D(64, 3, padding="same")(y)
    x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.Flatten()(x)
    x = layers.Dense(128, activation="relu")(x)
    return keras.Model(image, layers.Dense(10, activation="softmax")(x))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--out", default="digits.keras")
    args = parser.parse_args()

    keras.utils.set_random_seed(0)
    x_train, x_test, y_train, y_test = load_digits()
    model = build_model()
    print(f"to be trained: {model.count_params():,} params")
    optimizer = optimizers.ProxSGD(model, 0.1, strength=1e-3)  # tfslim
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(
        x_train,
        y_train,
        batch_size=32,
        epochs=args.epochs,
        validation_data=(x_test, y_test),
        verbose=2,
    )

    model, _ = prune_channels(model, ratios=ratios_from_sparsity(model))  # tfslim
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x_train, y_train, batch_size=32, epochs=args.epochs // 2 + 1, verbose=2)
    _, accuracy = model.evaluate(x_test, y_test, verbose=0)
    print(f"smaller: {model.count_params():,} params, accuracy {accuracy:.1%}")
    model.save(args.out)


if __name__ == "__main__":
    main()
