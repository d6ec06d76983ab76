"""Trains a Keras 3 model on handwritten digits, in a training loop of its own.

Callbacks do nothing in such a loop, so network slimming is one line in the step. With
the import and the cut that makes three, marked `# tfslim`. The smaller network is
trained on in the same loop and written as a `.tflite` with TensorFlow's converter.

  python examples/keras3_custom_loop.py [--epochs=12] [--out=digits.tflite]
"""

import argparse
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from sklearn import datasets, model_selection

from tfslim import callbacks, prune_channels  # tfslim


def load_digits():
    digits = datasets.load_digits()
    images = (digits.images[..., None] / 16).astype(np.float32)
    return model_selection.train_test_split(
        images, digits.target, test_size=0.25, random_state=0
    )


def build_model():
    image = layers.Input((8, 8, 1))
    x = image
    for filters in (64, 128):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.ReLU()(x)
        x = layers.MaxPooling2D()(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(10)(x))


def train(model, data, *, epochs, learning_rate, strength):
    optimizer = keras.optimizers.SGD(learning_rate, momentum=0.9)
    loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = loss_fn(y, model(x, training=True))
            loss += callbacks.slimming_penalty(model, strength)  # tfslim
        weights = model.trainable_weights
        gradients = tape.gradient(loss, weights)
        optimizer.apply_gradients(zip(gradients, weights, strict=True))
        return loss

    for epoch in range(epochs):
        losses = [float(step(x, y)) for x, y in data]
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}")


def accuracy(model, x, y):
    return np.mean(np.argmax(model(x), axis=-1) == y)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--out", default="digits.tflite")
    args = parser.parse_args()

    keras.utils.set_random_seed(0)
    x_train, x_test, y_train, y_test = load_digits()
    data = tf.data.Dataset.from_tensor_slices((x_train, y_train))
    data = data.shuffle(2000, seed=0).batch(32, drop_remainder=True)
    model = build_model()
    train(model, data, epochs=args.epochs, learning_rate=0.05, strength=1e-2)
    print(f"trained: {model.count_params():,} params")

    model, _ = prune_channels(model, pruning_ratio=0.6, criterion="bn_scale")  # tfslim
    train(model, data, epochs=args.epochs // 2 + 1, learning_rate=0.01, strength=0.0)
    found = accuracy(model, x_test, y_test)
    print(f"smaller: {model.count_params():,} params, accuracy {found:.1%}")
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    Path(args.out).write_bytes(converter.convert())


if __name__ == "__main__":
    main()
