"""What a model file may name: pure functions of tensors, and Keras's own parts.

Lists of what is known to be harmless, not of what is known to be harmful: neither
touches files, loads libraries, prints, keeps state outside the model nor calls a
function that it is given. Whatever is missing here is refused, and can be opened by
`allow_unsafe`.
"""

from __future__ import annotations

# Layers and models of either Keras, some of them under several names.
LAYERS = frozenset(
    """
    Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D
    AdaptiveAveragePooling3D AdaptiveMaxPooling1D AdaptiveMaxPooling2D
    AdaptiveMaxPooling3D Add AdditiveAttention AlphaDropout Attention AugMix
    AutoContrast Average AveragePooling1D AveragePooling2D AveragePooling3D AvgPool1D
    AvgPool2D AvgPool3D BatchNormalization BatchNormalizationV1 BatchNormalizationV2
    Bidirectional CategoryEncoding CenterCrop Concatenate
    ContrastLimitedAdaptiveHistogramEqualization Conv1D Conv1DTranspose Conv2D
    Conv2DTranspose Conv3D Conv3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D
    Convolution1D Convolution1DTranspose Convolution2D Convolution2DTranspose
    Convolution3D Convolution3DTranspose Cropping1D Cropping2D Cropping3D CuDNNGRU
    CuDNNLSTM CutMix Dense DepthwiseConv1D DepthwiseConv2D Discretization Dot Dropout
    ELU EinsumDense Embedding Equalization Flatten Functional GRU GRUCell GRUCellV1
    GRUCellV2 GRUV1 GRUV2 GaussianDropout GaussianNoise GlobalAveragePooling1D
    GlobalAveragePooling2D GlobalAveragePooling3D GlobalAvgPool1D GlobalAvgPool2D
    GlobalAvgPool3D GlobalMaxPool1D GlobalMaxPool2D GlobalMaxPool3D GlobalMaxPooling1D
    GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization GroupQueryAttention
    GroupedQueryAttention HashedCrossing Hashing Identity InputLayer InputSpec
    IntegerLookup LSTM LSTMCell LSTMCellV1 LSTMCellV2 LSTMV1 LSTMV2 LayerNormalization
    LeakyReLU LocallyConnected1D LocallyConnected2D Masking MaxNumBoundingBoxes
    MaxPool1D MaxPool2D MaxPool3D MaxPooling1D MaxPooling2D MaxPooling3D Maximum
    MelSpectrogram Minimum MixUp Model MultiHeadAttention Multiply Normalization PReLU
    Permute Pipeline RMSNormalization RNN RandAugment RandomBrightness
    RandomColorDegeneration RandomColorJitter RandomContrast RandomCrop
    RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale
    RandomHeight RandomHue RandomInvert RandomPerspective RandomPosterization
    RandomRotation RandomSaturation RandomSharpness RandomShear RandomTranslation
    RandomWidth RandomZoom ReLU RepeatVector Rescaling Reshape Resizing
    ReversibleEmbedding STFTSpectrogram SeparableConv1D SeparableConv2D
    SeparableConvolution1D SeparableConvolution2D Sequential SimpleRNN SimpleRNNCell
    Softmax Solarization SpatialDropout1D SpatialDropout2D SpatialDropout3D
    SpectralNormalization StackedRNNCells StringLookup Subtract SyncBatchNormalization
    TextVectorization ThresholdedReLU TimeDistributed UnitNormalization UpSampling1D
    UpSampling2D UpSampling3D Wrapper ZeroPadding1D ZeroPadding2D ZeroPadding3D
    """.split()
)
# Layers of tf_keras that name a function of TensorFlow or an attribute of a tensor.
OPERATIONS = frozenset(
    "ClassMethod InstanceMethod InstanceProperty SlicingOpLambda TFOpLambda".split()
)
# Initializers, regularizers, constraints, types: what layers are configured with.
PARTS = frozenset(
    """
    Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity IdentityInitializer
    LecunNormal LecunUniform Ones Orthogonal OrthogonalInitializer RandomNormal
    RandomUniform STFT STFTInitializer TruncatedNormal VarianceScaling Zeros
    L1 L1L2 L2 OrthogonalRegularizer
    MaxNorm MinMaxNorm NonNeg RadialConstraint UnitNorm
    DTypePolicy DTypePolicyMap FloatDTypePolicy GPTQDTypePolicy Int4DTypePolicy
    AWQDTypePolicy QuantizedDTypePolicy QuantizedFloat8DTypePolicy Policy PolicyV1
    AbsMaxQuantizer Float8QuantizationConfig Int4QuantizationConfig
    Int8QuantizationConfig
    SeedGenerator
    """.split()
)
# Activations by name, of either Keras.
ACTIVATIONS = frozenset(
    """
    celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish
    hard_tanh leaky_relu linear log_sigmoid log_softmax mish relu relu6 selu sigmoid
    silu soft_shrink softmax softmax_v2 softplus softsign sparse_plus
    sparse_sigmoid sparsemax squareplus swish tanh tanh_shrink threshold
    """.split()
)
# Functions by name where Keras takes one: activations, and what stands for one.
FUNCTIONS = ACTIVATIONS | frozenset(
    """
    abs absolute cast clip cos erf identity log log1p maximum minimum negative
    normalize ones reciprocal reduce_max reduce_mean reduce_sum rsqrt sign sin sqrt
    square zeros glorot_normal glorot_uniform he_normal he_uniform lecun_normal
    lecun_uniform orthogonal random_normal random_uniform truncated_normal
    variance_scaling l1 l2 l1_l2 max_norm min_max_norm non_neg unit_norm
    """.split()
)
# Operations of Keras 3, by class. Missing are those that call functions.
OPS = frozenset(
    """
    Abs Absolute AdaptiveAveragePool AdaptiveMaxPool Add AffineTransform All AllClose
    Amax Amin Angle Any Append Arange Arccos Arccosh Arcsin Arcsinh Arctan Arctan2
    Arctanh Argmax Argmin Argpartition Argsort Array ArraySplit Average AveragePool
    BatchNorm BinaryCrossentropy Bincount BitwiseAnd BitwiseInvert BitwiseLeftShift
    BitwiseNot BitwiseOr BitwiseRightShift BitwiseXor BroadcastTo CDist CTCDecode
    CTCLoss Cast CategoricalCrossentropy Cbrt Ceil Celu Cholesky CholeskyInverse Clip
    Concatenate Conj Conjugate Conv ConvTranspose ConvertToTensor Copy Corrcoef
    Correlate Cos Cosh CountNonzero CropImages Cross Cumprod Cumsum Deg2rad DepthToSpace
    DepthwiseConv Det Diag Diagflat Diagonal Diff Digitize Divide DivideNoNan Dot
    DotProductAttention Dsplit Dstack Eig Eigh Einsum ElasticTransform Elu EmptyLike
    Equal Erf Erfc Erfinv Exp Exp2 ExpandDims Expm1 ExtractPatches ExtractSequences FFT
    FFT2 Fabs FakeQuantWithMinMaxVars Flip Fliplr Flipud Floor FloorDivide Fmax Fmin
    Fmod Fold Full FullLike GaussianBlur Gcd Gelu Geomspace GetItem Glu Greater
    GreaterEqual HSVToRGB HardShrink HardSigmoid HardSilu HardTanh Heaviside Histogram
    Hsplit Hstack Hypot I0 IFFT2 IRFFT ISTFT Imag InTopK Inner Inv IsIn Isclose Isfinite
    Isinf Isnan Isneginf Isposinf Isreal Kron LayerNorm Lcm Ldexp LeakyRelu LeftShift
    Less LessEqual Linspace Log Log10 Log1p Log2 LogSigmoid LogSoftmax Logaddexp
    Logaddexp2 Logdet LogicalAnd LogicalNot LogicalOr LogicalXor Logspace Logsumexp
    Lstsq LuFactor MapCoordinates Matmul MatrixRank Max MaxPool Maximum Mean Median
    Meshgrid Min Minimum Mish Mod Moments Moveaxis MultiHot Multiply NanToNum Nanargmax
    Nanargmin Nancumprod Nancumsum Nanmax Nanmean Nanmedian Nanmin Nanpercentile Nanprod
    Nanquantile Nanstd Nansum Nanvar Ndim Negative Nextafter Nonzero Norm Normalize
    NotEqual OneHot OnesLike Outer PSNR Pad PadImages Percentile PerspectiveTransform
    Pinv Polar Power Prod Ptp Qr Quantile RFFT RGBToGrayscale RGBToHSV RMSNorm Rad2deg
    Ravel ReLU Real Rearrange Reciprocal Relu Relu6 Repeat Reshape Resize RightShift
    Roll Rot90 Round Rsqrt SSIM STFT SVD SaturateCast ScaleAndTranslate Scatter
    ScatterUpdate SearchSorted SegmentMax SegmentMin SegmentProd SegmentReduction
    SegmentSum Select Selu SeparableConv Sigmoid Sign Signbit Silu Sin Sinc Sinh Size
    Slice SliceUpdate Slogdet SobelEdges SoftShrink Softmax Softplus Softsign Solve
    SolveTriangular Sort SpaceToDepth SparseCategoricalCrossentropy SparsePlus
    SparseSigmoid Sparsemax Split Sqrt Square Squareplus Squeeze Stack Std StopGradient
    Subtract Sum Swapaxes Take TakeAlongAxis Tan Tanh TanhShrink Tensordot Threshold
    Tile TopK Trace Transpose Trapezoid Tril Triu TrueDivide Trunc Unfold Unique
    UnravelIndex Unstack Vander Var Vdot View ViewAsComplex ViewAsReal Vsplit Vstack
    Where ZerosLike
    """.split()
)
# Parts of Keras that the modules of all of these stand in.
MODULES = frozenset(
    """
    activations constraints dtype_policies engine initializers layers mixed_precision
    models ops quantizers random regularizers
    """.split()
)
# Functions of TensorFlow by the module that exports them, "" being its top; the same
# names in `compat.v1`, and whatever else the same functions are called.
_TENSORFLOW = {
    "": """
    argsort batch_to_space bitcast boolean_mask broadcast_dynamic_shape
    broadcast_static_shape broadcast_to cast clip_by_norm clip_by_value concat
    convert_to_tensor dynamic_partition dynamic_stitch einsum ensure_shape expand_dims
    eye fill gather gather_nd identity identity_n linspace meshgrid norm one_hot ones
    ones_like pad range rank realdiv repeat reshape reverse reverse_sequence roll
    scatter_nd searchsorted sequence_mask shape shape_n size slice sort space_to_batch
    space_to_batch_nd split squeeze stack stop_gradient strided_slice
    tensor_scatter_nd_add tensor_scatter_nd_max tensor_scatter_nd_min
    tensor_scatter_nd_sub tensor_scatter_nd_update tensordot tile transpose truncatediv
    truncatemod unique unique_with_counts unravel_index unstack where zeros zeros_like
    arg_max arg_min batch_gather batch_to_space_nd clip_by_average_norm div floor_div
    histogram_fixed_width sparse_to_dense string_split substr to_bfloat16 to_double
    to_float to_int32 to_int64
    """,
    "__operators__": "add eq getitem ne ragged_getitem",
    "bitwise": "bitwise_and bitwise_or bitwise_xor invert left_shift right_shift",
    "debugging": "assert_all_finite check_numerics",
    "dtypes": "cast complex saturate_cast",
    "image": """
    adjust_brightness adjust_contrast adjust_gamma adjust_hue adjust_saturation
    central_crop combined_non_max_suppression convert_image_dtype crop_and_resize
    crop_to_bounding_box draw_bounding_boxes extract_glimpse extract_image_patches
    extract_patches flip_left_right flip_up_down grayscale_to_rgb hsv_to_rgb
    image_gradients non_max_suppression non_max_suppression_overlaps
    non_max_suppression_padded non_max_suppression_with_scores pad_to_bounding_box
    per_image_standardization psnr random_brightness random_contrast random_crop
    random_flip_left_right random_flip_up_down random_hue random_saturation resize
    resize_area resize_bicubic resize_bilinear resize_image_with_pad resize_images
    resize_nearest_neighbor resize_with_crop_or_pad resize_with_pad rgb_to_grayscale
    rgb_to_hsv rgb_to_yiq rgb_to_yuv rot90 sobel_edges ssim ssim_multiscale
    total_variation transpose yiq_to_rgb yuv_to_rgb
    """,
    "keras.backend": "batch_flatten binary_crossentropy cast_to_floatx "
    "categorical_crossentropy",
    "linalg": """
    adjoint band_part cholesky cholesky_solve cross det diag diag_part eig eigh eigvals
    eigvalsh expm global_norm inv logdet logm lstsq lu matmul matrix_rank
    matrix_transpose matvec normalize pinv qr set_diag slogdet solve sqrtm svd
    tensor_diag tensor_diag_part trace triangular_solve tridiagonal_matmul
    tridiagonal_solve
    """,
    "math": """
    abs accumulate_n acos acosh add add_n angle argmax argmin asin asinh atan atan2
    atanh bessel_i0 bessel_i0e bessel_i1 bessel_i1e betainc bincount ceil
    confusion_matrix conj cos cosh count_nonzero cumprod cumsum cumulative_logsumexp
    digamma divide divide_no_nan equal erf erfc erfcinv erfinv exp expm1 floor floordiv
    floormod greater greater_equal igamma igammac imag in_top_k invert_permutation
    is_finite is_inf is_nan is_non_decreasing is_strictly_increasing l2_normalize lbeta
    less less_equal lgamma log log1p log_sigmoid logical_and logical_not logical_or
    logical_xor maximum minimum multiply multiply_no_nan ndtri negative nextafter
    not_equal polygamma polyval pow real reciprocal reciprocal_no_nan reduce_all
    reduce_any reduce_euclidean_norm reduce_logsumexp reduce_max reduce_mean reduce_min
    reduce_prod reduce_std reduce_sum reduce_variance rint round rsqrt scalar_mul
    segment_max segment_mean segment_min segment_prod segment_sum sigmoid sign sin sinh
    softplus sqrt square squared_difference subtract tan tanh top_k truediv
    unsorted_segment_max unsorted_segment_mean unsorted_segment_min
    unsorted_segment_prod unsorted_segment_sqrt_n unsorted_segment_sum xdivy xlog1py
    xlogy zero_fraction zeta
    """,
    "nn": """
    atrous_conv2d atrous_conv2d_transpose avg_pool avg_pool1d avg_pool2d avg_pool3d
    batch_norm_with_global_normalization batch_normalization bias_add
    collapse_repeated conv1d conv1d_transpose conv2d conv2d_transpose conv3d
    conv3d_transpose conv_transpose convolution crelu ctc_beam_search_decoder
    ctc_greedy_decoder ctc_loss depth_to_space depthwise_conv2d
    depthwise_conv2d_native dilation2d dropout elu embedding_lookup erosion2d
    fractional_avg_pool fractional_max_pool fused_batch_norm gelu isotonic_regression
    l2_loss leaky_relu local_response_normalization log_softmax max_pool max_pool1d
    max_pool2d max_pool3d max_pool_with_argmax moments normalize_moments pool relu
    relu6 relu_layer selu separable_conv2d sigmoid_cross_entropy_with_logits silu
    softmax softmax_cross_entropy_with_logits softsign space_to_batch space_to_depth
    sparse_softmax_cross_entropy_with_logits sufficient_statistics
    weighted_cross_entropy_with_logits weighted_moments with_space_to_batch xw_plus_b
    """,
    "quantization": """
    dequantize fake_quant_with_min_max_args fake_quant_with_min_max_vars
    fake_quant_with_min_max_vars_per_channel quantize quantize_and_dequantize
    quantize_and_dequantize_v2
    """,
    "ragged": "boolean_mask range row_splits_to_segment_ids segment_ids_to_row_splits "
    "stack",
    "random": """
    categorical gamma normal poisson shuffle stateless_binomial stateless_categorical
    stateless_gamma stateless_normal stateless_poisson stateless_truncated_normal
    stateless_uniform truncated_normal uniform multinomial
    """,
    "signal": """
    dct fft fft2d fft3d fftshift frame hamming_window hann_window idct ifft ifft2d
    ifft3d ifftshift inverse_mdct inverse_stft irfft irfft2d irfft3d kaiser_window
    linear_to_mel_weight_matrix mdct mfccs_from_log_mel_spectrograms overlap_and_add
    rfft rfft2d rfft3d stft vorbis_window
    """,
    "sparse": """
    add bincount concat expand_dims eye fill_empty_rows from_dense mask maximum minimum
    reduce_max reduce_sum reorder reset_shape reshape retain segment_mean
    segment_sqrt_n segment_sum slice softmax sparse_dense_matmul split to_dense
    to_indicator transpose
    """,
    "strings": """
    as_string bytes_split join length lower ngrams reduce_join regex_full_match
    regex_replace split strip substr to_hash_bucket to_hash_bucket_fast
    to_hash_bucket_strong to_number unicode_decode unicode_encode unicode_script
    unicode_split unicode_transcode unsorted_segment_join upper
    """,
}
SYMBOLS = frozenset(
    f"{module}.{name}" if module else name
    for module, listed in _TENSORFLOW.items()
    for name in listed.split()
)
# Class methods and attributes that ragged and sparse tensors have in models.
CLASS_METHODS = frozenset(
    f"RaggedTensor.{name}"
    for name in """
    from_nested_row_lengths from_nested_row_splits from_nested_value_rowids
    from_row_lengths from_row_limits from_row_splits from_row_starts from_sparse
    from_tensor from_uniform_row_length from_value_rowids
    """.split()
)
ATTRIBUTES = frozenset(
    """
    bounding_shape dense_shape dtype flat_values indices merge_dims nested_row_lengths
    nested_row_splits nested_value_rowids nrows row_lengths row_limits row_splits
    row_starts shape to_sparse to_tensor value_rowids values with_flat_values
    with_row_splits_dtype with_values
    """.split()
)
# Types of numbers and text that a constant may have.
DTYPES = frozenset(
    """
    bfloat16 bool complex128 complex64 float16 float32 float64 int16 int32 int64 int8
    string str uint16 uint32 uint64 uint8
    """.split()
)
