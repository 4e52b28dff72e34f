// The gradient norm for clipping, Adam (Kingma and Ba 2015) with decoupled weight decay (Loshchilov and Hutter 2019),
// and the average of the weights.

// One partial sum per block, over `piece` values.
extern "C" __global__ void squares(u64 count, u32 piece, const float* values, double* sums) {
    DYNAMIC_SHARED(double, working);
    u64 begin = (u64)blockIdx.x * piece;
    u64 end = begin + piece < count ? begin + piece : count;
    double sum = 0.0;
    for (u64 index = begin + threadIdx.x; index < end; index += blockDim.x) {
        double value = (double)values[index];
        sum += value * value;
    }
    sum = block_sum(sum, working);
    if (threadIdx.x == 0) {
        sums[blockIdx.x] = sum;
    }
}

extern "C" __global__ void adam(
    u64 count, float gradient_scale, float step_size, float correction, float decay, float new_first,
    float keep_second, float new_second, float epsilon, float* value, float* gradient, float* first, float* second
) {
    u64 index = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count) {
        float slope = gradient[index] * gradient_scale;
        gradient[index] = 0.0f;
        float mean = first[index] + (slope - first[index]) * new_first;
        float square = second[index] * keep_second + new_second * slope * slope;
        first[index] = mean;
        second[index] = square;
        value[index] = value[index] * decay - step_size * mean / (sqrtf(square) / correction + epsilon);
    }
}

// Moves an average towards the values by a share of the difference.
extern "C" __global__ void average(u64 count, float share, const float* values, float* average) {
    u64 index = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count) {
        average[index] += share * (values[index] - average[index]);
    }
}
