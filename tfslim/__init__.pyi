"""Every public name and where it stands: for type checkers, and read by `__init__`."""

# ruff: noqa: I001 - in groups, by what a user wants to do.

# Open and build.
from tfslim.models.build import build_model as build_model
from tfslim.loading import load_model as load_model
from tfslim.data import load_data as load_data
from tfslim.detection.darknet import load_darknet as load_darknet
from tfslim.detection.darknet import save_darknet as save_darknet
from tfslim.graph.keras import to_keras3 as to_keras3
from tfslim.graph.keras import to_tf_keras as to_tf_keras
from tfslim.preprocessing import Preprocessing as Preprocessing

# The whole way, from a model to verified files.
from tfslim.config import default_config as default_config
from tfslim.pipeline.export import export_model as export_model

# Train.
from tfslim.tasks import Task as Task
from tfslim.training.options import FitOptions as FitOptions
from tfslim.training.training import Training as Training
from tfslim.training import fit as fit
from tfslim.training import start_workers as start_workers

# Remove channels.
from tfslim.pruning.budget import Budget as Budget
from tfslim.pruning.scores import Scoring as Scoring
from tfslim.pruning.prune import prune_channels as prune_channels
from tfslim.pruning.prune import scale_width as scale_width
from tfslim.pruning.iterative import prune_iteratively as prune_iteratively
from tfslim.pruning.iterative import IterativeOptions as IterativeOptions
from tfslim.pruning.ratios import ratios_from_sparsity as ratios_from_sparsity
from tfslim.pruning.reconstruct import reconstruct_kernels as reconstruct_kernels
from tfslim.pruning.recalibrate import recalibrate_batch_norm as recalibrate_batch_norm
from tfslim.slimming.slim_network import slim_network as slim_network
from tfslim.slimming.slim_network import SlimmingOptions as SlimmingOptions
from tfslim.proximal.prox_sg import prox_sg as prox_sg
from tfslim.proximal.prox_sg import ProxOptions as ProxOptions
from tfslim.bayesian.compress import bayesian_compression as bayesian_compression
from tfslim.bayesian.compress import BayesianOptions as BayesianOptions
from tfslim.activation.activation_pruning import (
    ActivationOptions as ActivationOptions,
    activation_pruning as activation_pruning,
)
from tfslim.activation.counts import count_activations as count_activations

# Make what is left smaller.
from tfslim.factorization.factorize_model import factorize_model as factorize_model
from tfslim.sparsity.sparsify import sparsify as sparsify
from tfslim.sparsity.sparsify import SparsifyOptions as SparsifyOptions
from tfslim.distillation.distill import distill as distill
from tfslim.distillation.losses import DistillOptions as DistillOptions
from tfslim.distillation.losses import distillation_loss as distillation_loss

# Convert and quantize.
from tfslim.convert import convert_model as convert_model
from tfslim.convert import convert_quantized as convert_quantized
from tfslim.convert.tables import split_tables as split_tables
from tfslim.quantization.quantize import quantize_tflite as quantize_tflite
from tfslim.quantization.ranges.calibration import Calibration as Calibration
from tfslim.quantization.rules.recipe import Recipe as Recipe

# Time.
from tfslim.benchmark import BenchmarkOptions as BenchmarkOptions

# What goes wrong.
from tfslim.errors import TfslimError as TfslimError
from tfslim.errors import TfslimWarning as TfslimWarning

# Used by their own names: `tfslim.callbacks.NetworkSlimming`.
from tfslim import callbacks as callbacks
from tfslim import optimizers as optimizers

__version__: str
