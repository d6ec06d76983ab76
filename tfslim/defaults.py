"""Every field of a config, with its default: what the command line can set."""

from __future__ import annotations

import ml_collections

_TRAIN = {"epochs": 5, "learning_rate": 0.0}  # Of the training after a step.
_LIMITS = {
    "ratio": 0.0,  # Share of channels to remove.
    "max_macs": 0.0,  # Instead of the ratio: what may be left.
    "max_params": 0.0,
}
# Each kind of step that makes a model smaller, with its options.
STEPS: dict[str, dict[str, object]] = {
    "width": {
        "alpha": 0.0,  # Width multiplier, in (0, 1].
        "criterion": "l1_norm",  # Which channels stay.
        "divisor": 8,
        "ignore": (),
    },
    "slim": {
        "method": "slimming",  # Or "prox_sg", "activation".
        **_LIMITS,
        "strength": 0.0,  # Of the penalty; 0: the method's default.
        "sparse_epochs": 10,  # Of the training under the penalty.
        "passes": 1,
        "divisor": 16,
        "min_channels": 1,
        "ignore": (),
    },
    "prune": {
        "method": "",  # "channels", or nothing is pruned.
        **_LIMITS,
        "criterion": "l1_norm",
        "scope": "uniform",  # Or "global": the least important of all groups.
        "divisor": 16,
        "min_channels": 1,
        "ignore": (),  # Names or patterns of layers to leave whole.
        "fold": "exact",
    },
    "factorize": {
        "method": "",  # "tucker", "svd" or "tucker+svd", or nothing is factorized.
        "energy": 0.0,  # Share of the kernel's squared norm to keep, or
        "target": 0.0,  # what may be left of the MACs, as a share, or
        "ranks": "",  # "vbmf".
        "divisor": 8,
        "ignore": (),
    },
    "distil": {
        "teacher": "",  # What `load_model` opens; empty: the model before steps.
        "temperature": 4.0,
        "alpha": 0.5,  # Share of the teacher in the loss.
    },
    "sparsify": {
        "method": "magnitude",  # Or "2:4", "block", "xnnpack".
        "sparsity": 0.8,
    },
    "cluster": {"num_clusters": 16},
    # Training that knows of INT8; post-training quantization is `quantization`.
    # `keep` what earlier steps made: "zeros", "clusters", "both" or "nothing".
    "quantize": {"keep": "auto"},
}


def default_config() -> ml_collections.ConfigDict:
    """Returns a new config with every field there is, at its default."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.task = "auto"  # By the model and the data, or a name in tasks.TASKS.
    config.model = ml_collections.ConfigDict(
        {
            "name": "resnet18",  # Of the zoo, or what `load_model` opens.
            "input_shape": (),  # Empty: the model's own default.
            "options": {},
            # Of a model that is opened: a preset of tfslim.preprocessing, or "auto":
            # as the model says, else the one it does best with.
            "preprocessing": "auto",
            "allow_unsafe": False,  # Open files that hold code; see `load_model`.
            "save_format": "keras",  # Of model.keras: "keras" (3) or "tf_keras".
        }
    )
    config.data = ml_collections.ConfigDict(
        {
            # Unset: digits for a model of the zoo; one that is opened needs its own.
            "spec": ml_collections.config_dict.placeholder(str),
            "skip_corrupt": False,
        }
    )
    config.training = ml_collections.ConfigDict(
        {
            # Unset: 8 for a model of the zoo by name; none for one that is opened or
            # given, whose weights stay.
            "epochs": ml_collections.config_dict.placeholder(int),
            "batch_size": 32,
            "optimizer": "adam",
            "learning_rate": 0.0,  # 0: the optimizer's default.
            "schedule": "one_cycle",
            "patience": 0,  # Epochs without progress before stopping; 0: never.
            "augment": (),  # Names in tfslim.data.augment, e.g. ("flip", "shift").
            "strategy": "none",
            "mixed_precision": False,
            "log_dir": "",
            # From which the job, its steps too, goes on after a kill.
            "backup_dir": "",
        }
    )
    # In this order, e.g. ("width:0.5", "slim:0.6,passes=2"): keys of `STEPS`, with
    # options that are set for this one step. Empty: `prune` and `factorize`, where
    # they have a method.
    config.steps = ()
    for name, fields in STEPS.items():
        config[name] = ml_collections.ConfigDict({**fields, **_TRAIN})
    _add_files(config)
    return config.lock()


def _add_files(config: ml_collections.ConfigDict) -> None:
    """Adds the sections of what is made, checked and timed in the end."""
    config.convert = ml_collections.ConfigDict({"allow_flex": False})
    config.quantization = ml_collections.ConfigDict(
        {
            # Unset: float32, float16, dynamic_int8 and int8, those that can be made.
            "recipes": ml_collections.config_dict.placeholder(tuple),
            "calibration": "minmax",  # Or kl, mse, percentile, auto, …
            "calibration_samples": 300,
            "equalize": False,  # Balance channels, where it helps.
            "rounding": "gptq",  # Or nearest; kept where it helps.
            "bias_correction": "fast",  # Or full, none.
            "layers": ml_collections.ConfigDict(),  # {"conv_1": "float32"}
            "ranges": "",  # A ranges.json to reuse instead of calibrating.
            "io": "float",
            # Points that the accuracy of static INT8 may drop: layers return to
            # float until it is met. Unset: as it comes.
            "max_drop": ml_collections.config_dict.placeholder(float),
        }
    )
    config.verify = ml_collections.ConfigDict(
        {
            "num_samples": 64,
            # Programs that each file is run in, as in tfslim.verify.
            "consumers": (),
        }
    )
    config.benchmark = ml_collections.ConfigDict(
        {
            "runners": ("host",),  # Of "host" and "android"; empty: nothing is timed.
            "num_threads": 1,
            "delegate": "xnnpack",
            "warmup_runs": 5,
            "warmup_secs": 0.1,
            "num_runs": 50,
            "min_secs": 0.0,
            "rounds": 10,
            # Which phones, and how; see docs/android.md.
            "android": {
                "serial": "",
                "delegate": "xnnpack",
                "benchmark_binary": "",
                "device_dir": "/data/local/tmp",
                "keep_files": False,
                "cooldown_secs": 60.0,
                "timeout_secs": 600.0,
                "reconnect_secs": 20.0,
                "profile": False,
            },
        }
    )
