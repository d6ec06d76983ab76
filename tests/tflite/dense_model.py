"""A tiny `.tflite` written with the schema alone, so that its truth is known."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

WEIGHTS = np.array([[1, 2, 3], [-1, 0.5, 0]], np.float32)
BIAS = np.array([0.25, -4], np.float32)


def _buffer(array):
    return schema.BufferT(data=np.frombuffer(array.tobytes(), np.uint8))


def _tensor(name, shape, buffer=0, signature=None):
    return schema.TensorT(
        name=name, shape=shape, buffer=buffer, shapeSignature=signature, type=0
    )


def serialize(flat):
    """Packs as upstream's own tools do, without our writer."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(flat.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def build():
    """relu(x W^T + b) then tanh, batch open, with a signature and metadata."""
    codes = schema.BuiltinOperator
    graph = schema.SubGraphT(
        tensors=[
            _tensor("x", [1, 3], signature=[-1, 3]),
            _tensor("weights", [2, 3], buffer=1),
            _tensor("bias", [2], buffer=2),
            _tensor("hidden", [1, 2], signature=[-1, 2]),
            _tensor("y", [1, 2], signature=[-1, 2]),
        ],
        inputs=[0],
        outputs=[4],
        operators=[
            schema.OperatorT(
                opcodeIndex=0,
                inputs=[0, 1, 2],
                outputs=[3],
                builtinOptionsType=schema.BuiltinOptions.FullyConnectedOptions,
                builtinOptions=schema.FullyConnectedOptionsT(
                    fusedActivationFunction=schema.ActivationFunctionType.RELU
                ),
            ),
            schema.OperatorT(opcodeIndex=1, inputs=[3], outputs=[4]),
        ],
    )
    return schema.ModelT(
        version=3,
        operatorCodes=[
            schema.OperatorCodeT(
                builtinCode=code, deprecatedBuiltinCode=code, version=1
            )
            for code in (codes.FULLY_CONNECTED, codes.TANH)
        ],
        subgraphs=[graph],
        buffers=[
            schema.BufferT(),
            _buffer(WEIGHTS),
            _buffer(BIAS),
            _buffer(np.frombuffer(b"1.5.0", np.uint8)),
        ],
        metadata=[schema.MetadataT(name="min_runtime_version", buffer=3)],
        signatureDefs=[
            schema.SignatureDefT(
                signatureKey="serving_default",
                subgraphIndex=0,
                inputs=[schema.TensorMapT(name="features", tensorIndex=0)],
                outputs=[schema.TensorMapT(name="scores", tensorIndex=4)],
            )
        ],
    )


def truth(x):
    return np.tanh(np.maximum(x @ WEIGHTS.T + BIAS, 0))
