// Operations on the rows of a matrix.

// Sets every row of y to the bias.
extern "C" __global__ void fill_rows(u64 count, u32 columns, const float* bias, float* y) {
    u64 index = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count) {
        y[index] = bias[index % columns];
    }
}

// Sums of columns, first over pieces of rows (blockIdx.y), then over the pieces. Blocks have SUM_COLUMNS columns times
// SUM_LANES lanes.
extern "C" __global__ void column_sums(u32 rows, u32 columns, u32 piece, const float* x, float* sums) {
    DYNAMIC_SHARED(float, working);
    u32 lane = threadIdx.x / SUM_COLUMNS;
    u32 column = blockIdx.x * SUM_COLUMNS + threadIdx.x % SUM_COLUMNS;
    u32 end = smaller(rows, (blockIdx.y + 1) * piece);
    float sum = 0.0f;
    for (u32 row = blockIdx.y * piece + lane; row < end && column < columns; row += SUM_LANES) {
        sum += x[(u64)row * columns + column];
    }
    working[threadIdx.x] = sum;
    __syncthreads();
    if (lane == 0 && column < columns) {
        for (u32 other = 1; other < SUM_LANES; other++) {
            sum += working[threadIdx.x + other * SUM_COLUMNS];
        }
        sums[(u64)blockIdx.y * columns + column] = sum;
    }
}

extern "C" __global__ void add_column_totals(u32 pieces, u32 columns, const float* sums, float* totals) {
    u32 column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column < columns) {
        double total = 0.0;
        for (u32 piece = 0; piece < pieces; piece++) {
            total += (double)sums[(u64)piece * columns + column];
        }
        totals[column] += (float)total;
    }
}

// Softmax numerators of a row, computed by a warp; returns the largest logit and the sum of the exponentials.
static __device__ __forceinline__ float2 softmax_row(u32 classes, float* row) {
    u32 lane = threadIdx.x % WARP;
    float largest = LOWEST;
    for (u32 column = lane; column < classes; column += WARP) {
        largest = row[column] > largest ? row[column] : largest;
    }
    largest = warp_largest(largest);
    float sum = 0.0f;
    for (u32 column = lane; column < classes; column += WARP) {
        float exponential = expf(row[column] - largest);
        row[column] = exponential;
        sum += exponential;
    }
    float2 found = {largest, warp_sum(sum)};
    return found;
}

// One warp per row.
extern "C" __global__ void softmax(u32 rows, u32 classes, float* logits) {
    u32 row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (row >= rows) {
        return;
    }
    float* values = logits + (u64)row * classes;
    float2 found = softmax_row(classes, values);
    for (u32 column = threadIdx.x % WARP; column < classes; column += WARP) {
        values[column] /= found.y;
    }
}

// The sum of a block's losses, one per warp.
static __device__ __forceinline__ void store_losses(
    u32 warp, u32 lane, double loss, double* working, double* losses
) {
    if (lane == 0) {
        working[warp] = loss;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        double sum = 0.0;
        for (u32 other = 0; other < blockDim.x / WARP; other++) {
            sum += working[other];
        }
        losses[blockIdx.x] = sum;
    }
}

// One warp per row; one partial sum of the loss per block.
extern "C" __global__ void cross_entropy(
    u32 rows, u32 classes, float* logits, const u32* targets, float scale, double* losses
) {
    DYNAMIC_SHARED(double, working);
    u32 warp = threadIdx.x / WARP;
    u32 lane = threadIdx.x % WARP;
    u32 row = blockIdx.x * (blockDim.x / WARP) + warp;
    double loss = 0.0;
    if (row < rows) {
        float* values = logits + (u64)row * classes;
        u32 target = targets[row];
        if (target == NONE) {
            for (u32 column = lane; column < classes; column += WARP) {
                values[column] = 0.0f;
            }
        } else {
            float of_target = values[target];
            // Every lane must read the target before any lane overwrites it with its exponential.
            __syncwarp();
            float2 found = softmax_row(classes, values);
            loss = log((double)found.y) - ((double)of_target - (double)found.x);
            float factor = scale / found.y;
            for (u32 column = lane; column < classes; column += WARP) {
                values[column] = values[column] * factor - (column == target ? scale : 0.0f);
            }
        }
    }
    store_losses(warp, lane, loss, working, losses);
}

// Same as `cross_entropy` with class weights and label smoothing: a target keeps the share `kept`, and every class
// receives `spread`.
extern "C" __global__ void weighted_cross_entropy(
    u32 rows, u32 classes, float* logits, const u32* targets, const float* weights, float kept, float spread,
    float scale, double* losses
) {
    DYNAMIC_SHARED(double, working);
    u32 warp = threadIdx.x / WARP;
    u32 lane = threadIdx.x % WARP;
    u32 row = blockIdx.x * (blockDim.x / WARP) + warp;
    double loss = 0.0;
    if (row < rows) {
        float* values = logits + (u64)row * classes;
        u32 target = targets[row];
        float own = kept * weights[target];
        // There are few classes: every lane sums all of them in the same order.
        float all = 0.0f;
        double weighted = 0.0;
        for (u32 column = 0; column < classes; column++) {
            all += weights[column];
            weighted += (double)weights[column] * (double)values[column];
        }
        float share = own + spread * all;
        double of_targets = (double)own * (double)values[target] + (double)spread * weighted;
        // Every lane must read the row before any lane overwrites it with its exponentials.
        __syncwarp();
        float2 found = softmax_row(classes, values);
        loss = (double)share * (log((double)found.y) + (double)found.x) - of_targets;
        float factor = scale * share / found.y;
        for (u32 column = lane; column < classes; column += WARP) {
            float without = values[column] * factor - scale * spread * weights[column];
            values[column] = without - (column == target ? scale * own : 0.0f);
        }
    }
    store_losses(warp, lane, loss, working, losses);
}

// Sets totals[slot] to the sum of `count` values. One block.
extern "C" __global__ void total(u32 count, const double* values, u32 slot, double* totals) {
    DYNAMIC_SHARED(double, working);
    double sum = 0.0;
    for (u32 index = threadIdx.x; index < count; index += blockDim.x) {
        sum += values[index];
    }
    sum = block_sum(sum, working);
    if (threadIdx.x == 0) {
        totals[slot] = sum;
    }
}

static __device__ __forceinline__ u64 mix_bits(u64 bits) {
    bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9ull;
    bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebull;
    return bits ^ (bits >> 31);
}

// y = x times the dropout factor of its place; x and y may be the same buffer.
extern "C" __global__ void dropout(
    u64 count, u32 columns, u64 stream, float rate, const u32* places, const float* x, float* y
) {
    u64 index = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count) {
        u64 place = (u64)places[index / columns] * columns + index % columns;
        u64 bits = mix_bits(stream + place * 0x9e3779b97f4a7c15ull);
        float uniform = (float)(bits >> 40) / 16777216.0f;
        y[index] = x[index] * (uniform < rate ? 0.0f : 1.0f / (1.0f - rate));
    }
}

extern "C" __global__ void relu(u64 count, float* x) {
    u64 index = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count) {
        x[index] = rectify(x[index]);
    }
}

extern "C" __global__ void relu_backward(u64 count, const float* y, float* dy) {
    u64 index = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count) {
        dy[index] = y[index] > 0.0f ? dy[index] : 0.0f;
    }
}

// Softmax of a few weights.
static __device__ __forceinline__ float share(u32 layers, const float* weight, u32 layer) {
    float largest = LOWEST;
    for (u32 other = 0; other < layers; other++) {
        largest = weight[other] > largest ? weight[other] : largest;
    }
    float sum = 0.0f;
    for (u32 other = 0; other < layers; other++) {
        sum += expf(weight[other] - largest);
    }
    return expf(weight[layer] - largest) / sum;
}

// One block per row.
extern "C" __global__ void mix(
    u32 layers, u32 columns, const float* x, const u32* places, const float* weight, const float* gamma, float* y
) {
    const float* from = x + (u64)places[blockIdx.x] * layers * columns;
    for (u32 column = threadIdx.x; column < columns; column += blockDim.x) {
        float sum = 0.0f;
        for (u32 layer = 0; layer < layers; layer++) {
            sum += gamma[0] * share(layers, weight, layer) * from[layer * columns + column];
        }
        y[(u64)blockIdx.x * columns + column] = sum;
    }
}

// The gradient of the layers that a mix reads: that of row r is row sums[r] of dy, weighted.
extern "C" __global__ void mix_layers_backward(
    u64 count, u32 layers, u32 columns, const u32* sums, const float* weight, const float* gamma, const float* dy,
    float* dx
) {
    u64 index = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count) {
        u64 row = index / columns / layers;
        u32 layer = (u32)(index / columns % layers);
        dx[index] = gamma[0] * share(layers, weight, layer) * dy[(u64)sums[row] * columns + index % columns];
    }
}

// Dot products of dy with layer blockIdx.y, over the rows of a piece (blockIdx.x).
extern "C" __global__ void mix_products(
    u32 rows, u32 piece, u32 layers, u32 columns, const float* x, const u32* places, const float* dy,
    double* products
) {
    DYNAMIC_SHARED(double, working);
    u32 end = smaller(rows, (blockIdx.x + 1) * piece);
    double sum = 0.0;
    for (u32 row = blockIdx.x * piece; row < end; row++) {
        const float* layer = x + ((u64)places[row] * layers + blockIdx.y) * columns;
        for (u32 column = threadIdx.x; column < columns; column += blockDim.x) {
            sum += (double)(dy[(u64)row * columns + column] * layer[column]);
        }
    }
    sum = block_sum(sum, working);
    if (threadIdx.x == 0) {
        products[blockIdx.y * gridDim.x + blockIdx.x] = sum;
    }
}

// One thread; `products` contains one sum per layer.
extern "C" __global__ void mix_gradients(
    u32 layers, const double* products, const float* weight, const float* gamma, float* weight_gradient,
    float* gamma_gradient
) {
    double mean = 0.0;
    for (u32 layer = 0; layer < layers; layer++) {
        mean += (double)share(layers, weight, layer) * products[layer];
    }
    for (u32 layer = 0; layer < layers; layer++) {
        double slope = (double)(gamma[0] * share(layers, weight, layer)) * (products[layer] - mean);
        weight_gradient[layer] += (float)slope;
    }
    gamma_gradient[0] += (float)mean;
}
