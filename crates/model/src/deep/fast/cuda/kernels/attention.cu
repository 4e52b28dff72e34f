// Self-attention within each sequence (Vaswani et al. 2017, one head), with one block per sequence and one warp per
// row. Scores of a sequence are `[length, length]`, at a distance of `stride`.

struct Sequence {
    u32 length;
    const u32* offsets;  // offsets of its chunk's steps
    u32 row;             // within its chunk
};

static __device__ __forceinline__ Sequence sequence_at(
    u32 row, u32 rows_per_chunk, const u32* chunks, const u32* offsets, const u32* lengths
) {
    Chunk chunk = chunk_at(chunks, row / rows_per_chunk);
    Sequence sequence = {lengths[row], offsets + chunk.first_step, row - chunk.first_row};
    return sequence;
}

static __device__ __forceinline__ u64 state_of(Sequence sequence, u32 step) {
    return sequence.offsets[step] + sequence.row;
}

// The dot product of two rows, computed by a warp, in every lane.
static __device__ __forceinline__ float warp_dot(u32 columns, const float* left, const float* right) {
    float sum = 0.0f;
    for (u32 column = threadIdx.x % WARP; column < columns; column += WARP) {
        sum += left[column] * right[column];
    }
    return warp_sum(sum);
}

extern "C" __global__ void attention(
    u32 columns, u32 rows_per_chunk, const u32* chunks, const u32* offsets, const u32* lengths, u32 stride,
    const float* query, const float* key, const float* value, float* scores, float* y
) {
    Sequence sequence = sequence_at(blockIdx.x, rows_per_chunk, chunks, offsets, lengths);
    float scale = 1.0f / sqrtf((float)columns);
    u32 lane = threadIdx.x % WARP;
    for (u32 step = threadIdx.x / WARP; step < sequence.length; step += blockDim.x / WARP) {
        float* row = scores + (u64)blockIdx.x * stride + step * sequence.length;
        const float* looking = query + state_of(sequence, step) * columns;
        for (u32 other = 0; other < sequence.length; other++) {
            float score = scale * warp_dot(columns, looking, key + state_of(sequence, other) * columns);
            if (lane == 0) {
                row[other] = score;
            }
        }
        __syncwarp();
        float2 found = softmax_row(sequence.length, row);
        for (u32 other = lane; other < sequence.length; other += WARP) {
            row[other] /= found.y;
        }
        __syncwarp();
        float* to = y + state_of(sequence, step) * columns;
        for (u32 column = lane; column < columns; column += WARP) {
            float sum = 0.0f;
            for (u32 other = 0; other < sequence.length; other++) {
                sum += row[other] * value[state_of(sequence, other) * columns + column];
            }
            to[column] = sum;
        }
    }
}

// `slopes` is working memory of the size of the scores.
extern "C" __global__ void attention_backward(
    u32 columns, u32 rows_per_chunk, const u32* chunks, const u32* offsets, const u32* lengths, u32 stride,
    const float* query, const float* key, const float* value, const float* scores, const float* dy, float* slopes,
    float* dquery, float* dkey, float* dvalue
) {
    Sequence sequence = sequence_at(blockIdx.x, rows_per_chunk, chunks, offsets, lengths);
    float scale = 1.0f / sqrtf((float)columns);
    u32 lane = threadIdx.x % WARP;
    u32 warps = blockDim.x / WARP;
    scores += (u64)blockIdx.x * stride;
    slopes += (u64)blockIdx.x * stride;
    for (u32 step = threadIdx.x / WARP; step < sequence.length; step += warps) {
        const float* row = scores + step * sequence.length;
        float* out = slopes + step * sequence.length;
        const float* from = dy + state_of(sequence, step) * columns;
        float mean = 0.0f;
        for (u32 other = 0; other < sequence.length; other++) {
            float product = warp_dot(columns, from, value + state_of(sequence, other) * columns);
            mean += row[other] * product;
            if (lane == 0) {
                out[other] = product;
            }
        }
        __syncwarp();
        for (u32 other = lane; other < sequence.length; other += WARP) {
            out[other] = scale * row[other] * (out[other] - mean);
        }
    }
    __syncthreads();
    for (u32 step = threadIdx.x / WARP; step < sequence.length; step += warps) {
        u64 to = state_of(sequence, step) * columns;
        for (u32 column = lane; column < columns; column += WARP) {
            float to_query = 0.0f, to_key = 0.0f, to_value = 0.0f;
            for (u32 other = 0; other < sequence.length; other++) {
                u64 from = state_of(sequence, other) * columns + column;
                to_query += slopes[step * sequence.length + other] * key[from];
                to_key += slopes[other * sequence.length + step] * query[from];
                to_value += scores[other * sequence.length + step] * dy[from];
            }
            dquery[to + column] = to_query;
            dkey[to + column] = to_key;
            dvalue[to + column] = to_value;
        }
    }
}

// Attention over the slots of a row of x `[2, slots, columns]`, with one block per row and one warp per slot: `shares`
// is the softmax of the slots' products with `weight` `[2, columns]`, and y `[2, columns]` the sums weighted by it.
extern "C" __global__ void slot_attention(
    u32 slots, u32 columns, const float* x, const u32* lengths, const float* weight, float* shares, float* y
) {
    u32 length = lengths[blockIdx.x];
    const float* from = x + (u64)blockIdx.x * 2 * slots * columns;
    float* row = shares + (u64)blockIdx.x * slots;
    for (u32 slot = threadIdx.x / WARP; slot < length; slot += blockDim.x / WARP) {
        float score = warp_dot(columns, from + slot * columns, weight);
        score += warp_dot(columns, from + (slots + slot) * columns, weight + columns);
        if (threadIdx.x % WARP == 0) {
            row[slot] = score;
        }
    }
    __syncthreads();
    float largest = LOWEST, sum = 0.0f;
    for (u32 slot = 0; slot < length; slot++) {
        largest = row[slot] > largest ? row[slot] : largest;
    }
    for (u32 slot = 0; slot < length; slot++) {
        sum += expf(row[slot] - largest);
    }
    // Every thread must read the scores before any of them is replaced by a share.
    __syncthreads();
    for (u32 slot = threadIdx.x; slot < slots; slot += blockDim.x) {
        row[slot] = slot < length ? expf(row[slot] - largest) / sum : 0.0f;
    }
    __syncthreads();
    for (u32 column = threadIdx.x; column < 2 * columns; column += blockDim.x) {
        const float* values = from + (u64)(column / columns) * slots * columns + column % columns;
        float found = 0.0f;
        for (u32 slot = 0; slot < length; slot++) {
            found += row[slot] * values[slot * columns];
        }
        y[(u64)blockIdx.x * 2 * columns + column] = found;
    }
}

// `slopes` `[rows, slots]` is working memory; `partial` `[rows, 2, columns]` contains each row's part of the weight's
// gradient.
extern "C" __global__ void slot_attention_backward(
    u32 slots, u32 columns, const float* x, const u32* lengths, const float* weight, const float* shares,
    const float* dy, float* slopes, float* partial, float* dx
) {
    u32 length = lengths[blockIdx.x];
    u64 begin = (u64)blockIdx.x * 2 * slots * columns;
    const float* from = x + begin;
    const float* row = shares + (u64)blockIdx.x * slots;
    const float* gradient = dy + (u64)blockIdx.x * 2 * columns;
    float* slope = slopes + (u64)blockIdx.x * slots;
    for (u32 slot = threadIdx.x / WARP; slot < length; slot += blockDim.x / WARP) {
        float product = warp_dot(columns, from + slot * columns, gradient);
        product += warp_dot(columns, from + (slots + slot) * columns, gradient + columns);
        if (threadIdx.x % WARP == 0) {
            slope[slot] = product;
        }
    }
    __syncthreads();
    float mean = 0.0f;
    for (u32 slot = 0; slot < length; slot++) {
        mean += row[slot] * slope[slot];
    }
    __syncthreads();
    for (u32 slot = threadIdx.x; slot < length; slot += blockDim.x) {
        slope[slot] = row[slot] * (slope[slot] - mean);
    }
    __syncthreads();
    for (u32 column = threadIdx.x; column < 2 * columns; column += blockDim.x) {
        u64 first = (u64)(column / columns) * slots * columns + column % columns;
        float found = 0.0f;
        for (u32 slot = 0; slot < slots; slot++) {
            u64 at = first + (u64)slot * columns;
            bool there = slot < length;
            dx[begin + at] = there ? row[slot] * gradient[column] + slope[slot] * weight[column] : 0.0f;
            found += there ? slope[slot] * from[at] : 0.0f;
        }
        partial[(u64)blockIdx.x * 2 * columns + column] = found;
    }
}
