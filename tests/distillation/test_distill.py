"""Distillation: the loss by hand, its gradient, and students that come nearer."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tfslim
from tfslim import errors, tasks
from tfslim.distillation import losses as distillation
from tfslim.distillation import teachers

BOTH = pytest.mark.parametrize("k", [tf_keras, keras], ids=["tf_keras", "keras"])
# Both Keras, too slow for every day.
ONE = pytest.mark.parametrize(
    "k",
    [tf_keras, pytest.param(keras, marks=pytest.mark.slow)],
    ids=["tf_keras", "keras"],
)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(256, 6)).astype("float32")
# Three classes by the largest of the first three inputs.
Y = X[:, :3].argmax(axis=1)


def _classifier(k, width, seed, *, head="softmax", layers=1):
    k.utils.set_random_seed(seed)
    x = y = k.Input((6,), name="x")
    for number in range(layers):
        y = k.layers.Dense(width, activation="relu", name=f"hidden{number}")(y)
    if head == "Softmax":
        return k.Model(x, k.layers.Softmax()(k.layers.Dense(3, name="logits")(y)))
    return k.Model(x, k.layers.Dense(3, activation=head, name="out")(y))


def _softmax(logits):
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def test_loss_by_hand():
    # Teacher (ln 3, 0): probabilities 3/4 and 1/4; student (0, 0): one half each.
    # KL = 3/4 ln(3/2) + 1/4 ln(1/2).
    loss = tfslim.distillation_loss([[np.log(3.0), 0.0]], [[0.0, 0.0]])
    expected = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    np.testing.assert_allclose(loss, [expected], rtol=1e-6)
    # At temperature 2 logits of (2 ln 3, 0) are those of above; T^2 = 4.
    loss = tfslim.distillation_loss(
        [[2 * np.log(3.0), 0.0]], [[7.0, 7.0]], temperature=2.0
    )
    np.testing.assert_allclose(loss, [4 * expected], rtol=1e-5)


def test_loss_is_zero_for_equal_and_blind_to_a_constant():
    logits = RNG.normal(size=(5, 4)).astype("float32")
    np.testing.assert_allclose(
        tfslim.distillation_loss(logits, logits + 3.0, temperature=4.0),
        np.zeros(5),
        atol=1e-5,
    )


def test_gradient_is_that_of_the_source():
    # Hinton et al., eq. 2: T^2 / T * (softmax(z / T) - softmax(v / T)).
    teacher = RNG.normal(size=(3, 4)).astype("float32")
    student = tf.constant(RNG.normal(size=(3, 4)).astype("float32"))
    with tf.GradientTape() as tape:
        tape.watch(student)
        loss = tf.reduce_sum(
            tfslim.distillation_loss(teacher, student, temperature=5.0)
        )
    expected = 5.0 * (_softmax(student.numpy() / 5.0) - _softmax(teacher / 5.0))
    np.testing.assert_allclose(tape.gradient(loss, student), expected, atol=1e-5)


def test_no_gradient_flows_into_the_teacher():
    teacher = tf.constant([[1.0, 2.0]])
    with tf.GradientTape() as tape:
        tape.watch(teacher)
        loss = tfslim.distillation_loss(teacher, [[0.0, 1.0]], temperature=2.0)
    assert tape.gradient(loss, teacher) is None


@BOTH
def test_loss_in_a_loop_of_the_users_own(k):
    teacher, student = _classifier(k, 8, 0, head=None), _classifier(k, 4, 1, head=None)
    optimizer = k.optimizers.SGD(0.5)
    losses = []
    for _ in range(5):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(
                tfslim.distillation_loss(
                    teacher(X), student(X, training=True), temperature=2.0
                )
            )
        weights = student.trainable_variables
        gradients = tape.gradient(
            loss, [getattr(w, "value", w) if k is keras else w for w in weights]
        )
        optimizer.apply_gradients(zip(gradients, weights, strict=True))
        losses.append(float(loss))
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_wrong_temperature(temperature):
    with pytest.raises(errors.ConfigError, match="temperature"):
        tfslim.distillation_loss([[1.0, 2.0]], [[1.0, 2.0]], temperature=temperature)


def test_a_single_output_has_no_classes():
    with pytest.raises(errors.ConfigError, match="mean squared error"):
        tfslim.distillation_loss([[1.0]], [[2.0]])


def test_the_old_name_of_the_teachers_weight_is_taken_with_a_warning():
    model = _classifier(tf_keras, 4, 0)
    with (
        pytest.warns(DeprecationWarning, match="alpha= is now teacher_weight=") as said,
        pytest.raises(errors.ConfigError, match=r"teacher_weight must be in \[0, 1\]"),
    ):
        tfslim.distill(model, model, data=(X, Y), alpha=1.5)
    # Python shows it to whoever calls from a script of their own alone.
    assert said[0].filename == __file__


def _objective(**changes):
    task = dataclasses.replace(
        tasks.resolve("classification"),
        loss=changes.pop("task_loss", "sparse_categorical_crossentropy"),
        keras_metric=changes.pop("metric", "accuracy"),
    )
    names = {field.name for field in dataclasses.fields(distillation.DistillOptions)}
    own = {name: changes.pop(name) for name in names & set(changes)}
    how = {"temperature": 2.0, "teacher_weight": 0.75, "feature_weight": 3.0, **own}
    values = {
        "task": task,
        "how": distillation.DistillOptions(**how),
        "has_logits": True,
        "ends_in_softmax": True,
        "target_shape": (),
        "target_dtype": np.int64,
        "output_shape": (2,),
        "feature_shapes": ((1, 2),),
    }
    return distillation.Objective(**{**values, **changes})


def test_all_parts_of_the_loss_by_hand():
    # Class 1; teacher logits (2 ln 3, 0); hint (1, 2); student (0, 0) and (1, 4).
    target = [[1.0, 2 * np.log(3.0), 0.0, 1.0, 2.0]]
    output = [[0.0, 0.0, 1.0, 4.0]]
    task = np.log(2.0)
    teacher = 4 * (0.75 * np.log(1.5) + 0.25 * np.log(0.5))
    hint = (0.0 + 4.0) / 2
    found = _objective().loss(tf.constant(target), tf.constant(output))
    expected = 0.25 * task + 0.75 * teacher + 3.0 * hint
    np.testing.assert_allclose(found, [expected], rtol=1e-5)


def test_outputs_that_are_no_logits_are_compared_by_squares():
    objective = _objective(
        task_loss=tf_keras.losses.MeanSquaredError(),
        has_logits=False,
        ends_in_softmax=False,
        target_shape=(2,),
        target_dtype=np.float32,
        feature_shapes=(),
    )
    # Target (1, 2), teacher (3, 0), student (1, 0): task 2, teacher 2.
    found = objective.loss([[1.0, 2.0, 3.0, 0.0]], [[1.0, 0.0]])
    np.testing.assert_allclose(found, [0.25 * 2.0 + 0.75 * 2.0], rtol=1e-6)


def test_the_metric_is_the_tasks():
    metric = _objective().keras_metric()
    assert metric.__name__ == "accuracy"
    target = [[1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]]
    output = [[0.0, 5.0, 9.0, 9.0], [0.0, 5.0, 9.0, 9.0]]
    np.testing.assert_array_equal(metric(target, output), [1.0, 0.0])
    stateful = _objective(metric=tf_keras.metrics.SparseCategoricalAccuracy("top"))
    metric = stateful.keras_metric()
    metric.update_state(tf.constant(target), tf.constant(output))
    assert metric.name == "top" and float(metric.result()) == 0.5


def _distance(student, teacher):
    return float(np.mean((np.asarray(student(X)) - np.asarray(teacher(X))) ** 2))


@pytest.mark.parametrize(
    ("k", "head"),
    [(tf_keras, "softmax"), (keras, "Softmax")],
    ids=["tf_keras", "keras"],
)
def test_the_student_comes_nearer_to_the_teacher(k, head):
    teacher, student = _classifier(k, 16, 0), _classifier(k, 8, 1, head=head)
    before = [w.copy() for w in student.get_weights()]
    # Random labels: only the teacher can have taught it.
    wrong = RNG.permutation(Y)
    trained, _ = tfslim.distill(
        student,
        teacher,
        data=(X, wrong),
        teacher_weight=1.0,
        epochs=30,
        learning_rate=0.02,
    )
    assert isinstance(trained, k.Model)
    assert _distance(trained, teacher) < 0.05 * _distance(student, teacher)
    np.testing.assert_allclose(np.asarray(trained(X)).sum(axis=1), 1.0, rtol=1e-5)
    for old, new in zip(before, student.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_best_epoch_is_the_tasks():
    teacher, student = _classifier(tf_keras, 16, 0), _classifier(tf_keras, 8, 1)
    trained, report = tfslim.distill(
        student, teacher, data=(X, Y), validation=(X, Y), epochs=4, learning_rate=0.02
    )
    assert report.monitor == "val_accuracy"
    # What Keras reported is the accuracy on the labels, of the model as it is now.
    accuracy = tasks.accuracy(np.asarray(trained(X)), Y)
    assert report.history["val_accuracy"][report.best_epoch] == pytest.approx(accuracy)
    assert accuracy == pytest.approx(max(report.history["val_accuracy"]))


def test_without_the_teacher_it_is_the_task_alone():
    """teacher_weight=0 leaves the task's loss: the same weights as fit gives."""
    teacher, student = _classifier(tf_keras, 8, 0), _classifier(tf_keras, 8, 1)
    plain = tf_keras.models.clone_model(student)
    plain.set_weights(student.get_weights())
    trained, _ = tfslim.distill(
        student,
        teacher,
        data=(X, Y),
        teacher_weight=0.0,
        features=[("hidden0", "hidden0")],
        feature_weight=0.0,
        epochs=2,
    )
    tfslim.fit(plain, (X, Y), task="classification", epochs=2)
    for one, other in zip(trained.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@ONE
def test_features_are_learnt_through_an_adapter(k):
    teacher, student = _classifier(k, 3, 0), _classifier(k, 8, 1)
    trained, report = tfslim.distill(
        student,
        teacher,
        data=(X, Y),
        teacher_weight=0.0,
        features={"hidden0": "hidden0"},
        feature_weight=10.0,
        epochs=30,
        learning_rate=0.02,
    )
    assert "linear map" in report.compared[1]
    assert [w.shape for w in trained.get_weights()] == [
        w.shape for w in student.get_weights()
    ]

    def unexplained(model):
        """The teacher's features that no linear map of the student's can give."""
        seen = k.Model(model.input, model.get_layer("hidden0").output)(X)
        rows = np.c_[np.asarray(seen), np.ones(len(X))]
        wanted = np.asarray(
            k.Model(teacher.input, teacher.get_layer("hidden0").output)(X)
        )
        return np.linalg.lstsq(rows, wanted, rcond=None)[1].sum()

    assert unexplained(trained) < 0.2 * unexplained(student)


def _image_model(k, width, seed):
    k.utils.set_random_seed(seed)
    x = k.Input((8, 8, 1))
    y = k.layers.Conv2D(width, 3, strides=2, padding="same", name="conv")(x)
    y = k.layers.BatchNormalization(name="norm")(y)
    y = k.layers.ReLU(name="relu")(y)
    y = k.layers.Conv2DTranspose(1, 3, strides=2, padding="same", name="out")(y)
    return k.Model(x, y)


@ONE
def test_reconstruction_with_image_features_from_a_dataset(k):
    images = RNG.normal(size=(64, 8, 8, 1)).astype("float32")
    batches = tf.data.Dataset.from_tensor_slices((images, images)).batch(16)
    teacher, student = _image_model(k, 6, 0), _image_model(k, 3, 1)

    def distance(model):
        return np.mean((np.asarray(model(images)) - np.asarray(teacher(images))) ** 2)

    trained, report = tfslim.distill(
        student,
        teacher,
        data=batches,
        validation=batches,
        task="reconstruction",
        teacher_weight=1.0,
        features=[("relu", "relu")],
        epochs=15,
        learning_rate=0.02,
    )
    assert report.compared[0] == "outputs by mse" and report.monitor == "val_loss"
    assert distance(trained) < 0.5 * distance(student)


def test_arrays_learn_the_same_packed_at_once_or_as_batches_come():
    teacher, student = _classifier(tf_keras, 8, 0), _classifier(tf_keras, 4, 1)
    options = {"teacher_weight": 1.0, "epochs": 2, "learning_rate": 0.01}
    features = {"features": [("hidden0", "hidden0")], "feature_weight": 0.0}
    at_once, _ = tfslim.distill(student, teacher, data=(X, Y), **options)
    by_batch, _ = tfslim.distill(student, teacher, data=(X, Y), **options, **features)
    for one, other in zip(at_once.get_weights(), by_batch.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_tflite_teacher_teaches_like_its_keras_model(tmp_path):
    teacher, student = _classifier(tf_keras, 16, 0), _classifier(tf_keras, 8, 1)
    content = tfslim.convert_model(teacher).tflite
    path = tmp_path / "teacher.tflite"
    path.write_bytes(content)
    options = {"teacher_weight": 1.0, "epochs": 3, "learning_rate": 0.01}
    by_model, _ = tfslim.distill(student, teacher, data=(X, Y), **options)
    by_file, _ = tfslim.distill(student, path, data=(X, Y), **options)
    for one, other in zip(by_model.get_weights(), by_file.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)
    ask = teachers.build(content, features=(), has_logits=True)
    np.testing.assert_allclose(_softmax(ask(X)[0]), teacher(X), rtol=1e-4, atol=1e-6)


def test_a_quantized_teacher_never_says_impossible():
    """Probability 0 of an INT8 file counts as half a step of its scale."""
    teacher = _classifier(tf_keras, 16, 0)
    kernel, bias = teacher.get_layer("out").get_weights()
    teacher.get_layer("out").set_weights([30 * kernel, bias])
    content = tfslim.convert_model(teacher).tflite
    samples = [{"x": row[None]} for row in X[:64]]
    quantized = tfslim.quantize_tflite(
        content, "int8", samples=samples, keep_float="none"
    ).tflite
    [logits] = teachers.build(quantized, features=(), has_logits=True)(X)
    # A softmax in INT8 has the scale 1/256.
    assert logits.min() == pytest.approx(np.log(1 / 512), rel=1e-3)
    assert np.mean(logits.argmax(1) == np.asarray(teacher(X)).argmax(1)) > 0.95


@pytest.mark.slow
def test_the_teacher_works_under_a_strategy():
    teacher, student = _classifier(tf_keras, 8, 0), _classifier(tf_keras, 4, 1)
    options = {
        "features": [("hidden0", "hidden0")],
        "epochs": 2,
        "learning_rate": 0.01,
    }
    plain, _ = tfslim.distill(student, teacher, data=(X, Y), **options)
    mirrored, _ = tfslim.distill(
        student, teacher, data=(X, Y), strategy="mirrored", **options
    )
    for one, other in zip(plain.get_weights(), mirrored.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_logits_of_a_keras_teacher_are_those_before_the_softmax():
    teacher = _classifier(tf_keras, 4, 0)
    [logits] = teachers.build(teacher, features=(), has_logits=True)(X)
    np.testing.assert_allclose(_softmax(logits), teacher(X), rtol=1e-4, atol=1e-6)
    kernel, bias = teacher.get_layer("out").get_weights()
    hidden = tf_keras.Model(teacher.input, teacher.get_layer("hidden0").output)(X)
    np.testing.assert_allclose(logits, hidden @ kernel + bias, rtol=1e-4, atol=1e-5)


def test_a_function_teaches_too():
    teacher = _classifier(tf_keras, 16, 0, head=None)
    student = _classifier(tf_keras, 8, 1)
    options = {"teacher_weight": 1.0, "epochs": 2}

    def epoch(number):
        return tf.data.Dataset.from_tensor_slices((X, Y)).batch(64)

    one, _ = tfslim.distill(student, lambda x: teacher(x), data=epoch, **options)
    other, _ = tfslim.distill(student, teacher, data=epoch(0), **options)
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_cut_model_learns_from_the_original():
    teacher = _classifier(tf_keras, 64, 0)
    tfslim.fit(teacher, (X, Y), task="classification", epochs=20, learning_rate=0.02)
    budget = tfslim.Budget(pruning_ratio=0.75, divisor=1)
    cut, _ = tfslim.prune_channels(teacher, budget=budget)
    trained, _ = tfslim.distill(
        cut, teacher, data=(X, Y), epochs=10, learning_rate=0.02
    )
    assert trained.get_layer("hidden0").units == 16
    assert _distance(trained, teacher) < 0.2 * _distance(cut, teacher)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher_weight": 1.5}, "teacher_weight"),
        ({"teacher_weight": 0.0}, "use fit"),
        ({"temperature": 0}, "temperature"),
        ({"outputs": "softmax"}, "Known: auto"),
        ({"features": [("hidden0", "hiden0")]}, "Did you mean 'hidden0'"),
        ({"features": ["hidden0"]}, "pairs"),
        ({"feature_weight": -1.0}, "feature_weight"),
        ({"epoch": 3}, "Did you mean 'epochs'"),
    ],
)
def test_wrong_options(options, message):
    teacher, student = _classifier(tf_keras, 4, 0), _classifier(tf_keras, 4, 1)
    with pytest.raises(errors.ConfigError, match=message):
        tfslim.distill(student, teacher, data=(X, Y), **options)


def test_data_of_another_kind_is_refused_before_the_training():
    teacher, student = _classifier(tf_keras, 4, 0), _classifier(tf_keras, 4, 1)
    with pytest.raises(errors.ConfigError, match="data is a list"):
        tfslim.distill(student, teacher, data=[(X, Y)])
    with pytest.raises(errors.ConfigError, match="data is a generator"):
        tfslim.distill(student, teacher, data=(batch for batch in [(X, Y)]))
    with pytest.raises(errors.ConfigError, match="validation is a list"):
        tfslim.distill(student, teacher, data=(X, Y), validation=[(X, Y)])


def test_what_cannot_be_compared_is_refused():
    student = _classifier(tf_keras, 4, 1)
    sigmoid = _classifier(tf_keras, 4, 0, head="sigmoid")
    with pytest.raises(errors.ConfigError, match="outputs='mse'"):
        tfslim.distill(student, sigmoid, data=(X, Y))
    x = tf_keras.Input((6,))
    four = tf_keras.Model(x, tf_keras.layers.Dense(4)(x))
    with pytest.raises(errors.ConfigError, match=r"\[3\].*\[4\]"):
        tfslim.distill(student, four, data=(X, Y))
    with pytest.raises(errors.ConfigError, match="shows nothing but its outputs"):
        tfslim.distill(student, lambda x: x, data=(X, Y), features=[("hidden0", "a")])
    with pytest.raises(errors.ConfigError, match="teacher is a int"):
        tfslim.distill(student, 3, data=(X, Y))
    two = tf_keras.Model(x, [tf_keras.layers.Dense(3)(x), tf_keras.layers.Dense(3)(x)])
    with pytest.raises(errors.ConfigError, match="2 outputs"):
        tfslim.distill(two, student, data=(X, Y))
    with pytest.raises(errors.ConfigError, match="2 outputs"):
        tfslim.distill(student, two, data=(X, Y))


def test_features_of_another_size_are_refused():
    student = _image_model(tf_keras, 3, 0)
    x = tf_keras.Input((8, 8, 1))
    y = tf_keras.layers.Conv2D(3, 3, padding="same", name="conv")(x)
    teacher = tf_keras.Model(x, tf_keras.layers.Conv2D(1, 1)(y))
    images = np.zeros((4, 8, 8, 1), "float32")
    with pytest.raises(errors.ConfigError, match="layers of the same size"):
        tfslim.distill(
            student,
            teacher,
            data=(images, images),
            task="reconstruction",
            features=[("conv", "conv")],
        )


def test_a_task_of_the_users_own_keeps_its_metric():
    task = dataclasses.replace(
        tasks.TASKS.get("classification"),
        keras_metric=tf_keras.metrics.SparseTopKCategoricalAccuracy(2, name="top2"),
    )
    teacher, student = _classifier(tf_keras, 8, 0), _classifier(tf_keras, 4, 1)
    _, report = tfslim.distill(
        student, teacher, data=(X, Y), validation=(X, Y), task=task, epochs=2
    )
    assert report.monitor == "val_top2"
    assert 0.5 < report.history["val_top2"][-1] <= 1.0
