// Batch normalisation (Ioffe and Szegedy 2015) in PyTorch's form. Sums are in double precision, first over pieces of
// rows (blockIdx.y), then over the pieces. Blocks have SUM_COLUMNS columns times SUM_LANES lanes.

// Adds the lanes of a block; the sum is in lane 0.
static __device__ double lanes_sum(double value, double* working) {
    working[threadIdx.x] = value;
    __syncthreads();
    if (threadIdx.x < SUM_COLUMNS) {
        for (u32 other = 1; other < SUM_LANES; other++) {
            value += working[threadIdx.x + other * SUM_COLUMNS];
        }
    }
    __syncthreads();
    return value;
}

// Sums of x or, with a centre, of the squared distances from it.
extern "C" __global__ void norm_sums(
    u32 rows, u32 columns, u32 piece, const float* x, const double* centre, double* sums
) {
    DYNAMIC_SHARED(double, working);
    u32 lane = threadIdx.x / SUM_COLUMNS;
    u32 column = blockIdx.x * SUM_COLUMNS + threadIdx.x % SUM_COLUMNS;
    u32 end = smaller(rows, (blockIdx.y + 1) * piece);
    double sum = 0.0;
    for (u32 row = blockIdx.y * piece + lane; row < end && column < columns; row += SUM_LANES) {
        double value = (double)x[(u64)row * columns + column];
        if (centre) {
            value -= centre[column];
            value *= value;
        }
        sum += value;
    }
    sum = lanes_sum(sum, working);
    if (lane == 0 && column < columns) {
        sums[(u64)blockIdx.y * columns + column] = sum;
    }
}

static __device__ __forceinline__ double pieces_sum(u32 pieces, u32 columns, u32 column, const double* sums) {
    double total = 0.0;
    for (u32 piece = 0; piece < pieces; piece++) {
        total += sums[(u64)piece * columns + column];
    }
    return total;
}

extern "C" __global__ void norm_centre(u32 rows, u32 columns, u32 pieces, const double* sums, double* centre) {
    u32 column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column < columns) {
        centre[column] = pieces_sum(pieces, columns, column, sums) / (double)rows;
    }
}

extern "C" __global__ void norm_statistics(
    u32 rows, u32 columns, u32 pieces, float epsilon, float share, const double* centre, const double* squares,
    float* mean, float* scale, float* running_mean, float* running_variance
) {
    u32 column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column < columns) {
        double total = pieces_sum(pieces, columns, column, squares);
        mean[column] = (float)centre[column];
        scale[column] = (float)(1.0 / sqrt(total / (double)rows + (double)epsilon));
        float unbiased = (float)(total / (double)(rows > 1 ? rows - 1 : 1));
        running_mean[column] += share * (mean[column] - running_mean[column]);
        running_variance[column] += share * (unbiased - running_variance[column]);
    }
}

extern "C" __global__ void norm_fixed_scale(u32 columns, float epsilon, const float* variance, float* scale) {
    u32 column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column < columns) {
        scale[column] = 1.0f / sqrtf(variance[column] + epsilon);
    }
}

extern "C" __global__ void norm_apply(
    u64 count, u32 columns, const float* x, const float* mean, const float* scale, const float* weight,
    const float* bias, float* y
) {
    u64 index = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count) {
        u32 column = (u32)(index % columns);
        y[index] = (x[index] - mean[column]) * (scale[column] * weight[column]) + bias[column];
    }
}

// Sums of the gradient, followed by those of the gradient times the normalised input.
extern "C" __global__ void norm_gradient_sums(
    u32 rows, u32 columns, u32 piece, const float* x, const float* mean, const float* scale, const float* gradient,
    double* sums
) {
    DYNAMIC_SHARED(double, working);
    u32 lane = threadIdx.x / SUM_COLUMNS;
    u32 column = blockIdx.x * SUM_COLUMNS + threadIdx.x % SUM_COLUMNS;
    u32 end = smaller(rows, (blockIdx.y + 1) * piece);
    double sum = 0.0, product = 0.0;
    for (u32 row = blockIdx.y * piece + lane; row < end && column < columns; row += SUM_LANES) {
        u64 index = (u64)row * columns + column;
        sum += (double)gradient[index];
        product += (double)(gradient[index] * ((x[index] - mean[column]) * scale[column]));
    }
    sum = lanes_sum(sum, working);
    product = lanes_sum(product, working);
    if (lane == 0 && column < columns) {
        sums[(u64)blockIdx.y * columns + column] = sum;
        sums[(u64)(gridDim.y + blockIdx.y) * columns + column] = product;
    }
}

// Adds to the gradients of weight and bias; stores both totals, `[2, columns]`.
extern "C" __global__ void norm_gradient_totals(
    u32 columns, u32 pieces, const double* sums, float* weight_gradient, float* bias_gradient, float* totals
) {
    u32 column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column < columns) {
        totals[column] = (float)pieces_sum(pieces, columns, column, sums);
        totals[columns + column] = (float)pieces_sum(pieces, columns, column, sums + (u64)pieces * columns);
        bias_gradient[column] += totals[column];
        weight_gradient[column] += totals[columns + column];
    }
}

extern "C" __global__ void norm_backward(
    u64 count, u32 rows, u32 columns, const float* x, const float* mean, const float* scale, const float* weight,
    const float* totals, float* gradient
) {
    u64 index = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count) {
        u32 column = (u32)(index % columns);
        float normalised = (x[index] - mean[column]) * scale[column];
        float centred = gradient[index] - totals[column] / (float)rows;
        gradient[index] =
            weight[column] * scale[column] * (centred - normalised * (totals[columns + column] / (float)rows));
    }
}
