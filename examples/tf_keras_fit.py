"""Trains a tf_keras model on handwritten digits, with `model.fit`.

Network slimming is added in three lines, marked `# tfslim`: one for the callback, two
that cut the trained network. What is saved is a smaller, plain tf_keras model.

  python examples/tf_keras_fit.py [--epochs=20] [--out=digits.keras]
"""

import argparse

import numpy as np
import tf_keras
from sklearn import datasets, model_selection
from tf_keras import layers

import tfslim  # tfslim


def load_digits():
    digits = datasets.load_digits()
    images = (digits.images[..., None] / 16).astype(np.float32)
    return model_selection.train_test_split(
        images, digits.target, test_size=0.25, random_state=0
    )


def build_model():
    return tf_keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(64, 3, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(128, 3, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, activation="softmax"),
        ]
    )


def compile_model(model, learning_rate):
    model.compile(
        optimizer=tf_keras.optimizers.SGD(learning_rate, momentum=0.9),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--out", default="digits.keras")
    args = parser.parse_args()

    tf_keras.utils.set_random_seed(0)
    x_train, x_test, y_train, y_test = load_digits()
    model = build_model()
    compile_model(model, learning_rate=0.05)
    slimming = tfslim.callbacks.NetworkSlimming(1e-2)  # tfslim
    model.fit(
        x_train,
        y_train,
        batch_size=32,
        epochs=args.epochs,
        validation_data=(x_test, y_test),
        callbacks=[slimming],
        verbose=2,
    )
    print(f"trained: {model.count_params():,} params")

    model, report = tfslim.prune_channels(model, pruning_ratio=0.6)  # tfslim
    print(report)
    compile_model(model, learning_rate=0.01)
    model.fit(x_train, y_train, batch_size=32, epochs=args.epochs // 4 + 1, verbose=2)
    _, accuracy = model.evaluate(x_test, y_test, verbose=0)
    print(f"smaller: {model.count_params():,} params, accuracy {accuracy:.1%}")
    model.save(args.out)


if __name__ == "__main__":
    main()
