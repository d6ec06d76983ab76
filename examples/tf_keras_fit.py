"""Trains a tf_keras model on handwritten digits, with `model.fit`.

Network slimming is added in three lines, marked `# tfslim`: the callback penalizes the
scales of batch normalization, and the channels with the smallest are cut. What is saved
is a smaller, plain tf_keras model.

  python examples/tf_keras_fit.py [--epochs=12] [--out=digits.keras]
"""

import argparse

import numpy as np
import tf_keras
from sklearn import datasets, model_selection
from tf_keras import layers

from tfslim import callbacks, prune_channels  # tfslim


def load_digits():
    digits = datasets.load_digits()
    images = (digits.images[..., None] / 16).astype(np.float32)
    return model_selection.train_test_split(
        images, digits.target, test_size=0.25, random_state=0
    )


def build_model():
    model = tf_keras.Sequential([layers.Input((8, 8, 1))])
    for filters in (64, 128):
        model.add(layers.Conv2D(filters, 3, padding="same", use_bias=False))
        model.add(layers.BatchNormalization(momentum=0.9))
        model.add(layers.ReLU())
        model.add(layers.MaxPooling2D())
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(10, activation="softmax"))
    return model


def compile_model(model, learning_rate, steps):
    rates = tf_keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    model.compile(
        optimizer=tf_keras.optimizers.SGD(rates, momentum=0.9),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--out", default="digits.keras")
    args = parser.parse_args()

    tf_keras.utils.set_random_seed(0)
    x_train, x_test, y_train, y_test = load_digits()
    model = build_model()
    steps = -(-len(x_train) // 32) * args.epochs
    compile_model(model, learning_rate=0.05, steps=steps)
    model.fit(
        x_train,
        y_train,
        batch_size=32,
        epochs=args.epochs,
        validation_data=(x_test, y_test),
        callbacks=[callbacks.NetworkSlimming(0.01)],  # tfslim
        verbose=2,
    )
    print(f"trained: {model.count_params():,} params")

    model, _ = prune_channels(model, pruning_ratio=0.6, criterion="bn_scale")  # tfslim
    compile_model(model, learning_rate=0.02, steps=steps)
    model.fit(x_train, y_train, batch_size=32, epochs=args.epochs // 2 + 1, verbose=2)
    _, accuracy = model.evaluate(x_test, y_test, verbose=0)
    print(f"smaller: {model.count_params():,} params, accuracy {accuracy:.1%}")
    model.save(args.out)


if __name__ == "__main__":
    main()
