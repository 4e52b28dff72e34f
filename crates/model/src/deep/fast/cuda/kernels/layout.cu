// Memory layout of packed sequences. A chunk is six numbers: first row, rows, first state, states, index of its first
// step in `active` and `offsets`, and steps.

#define CHUNK 6u

struct Chunk {
    u32 first_row, rows, start, states, first_step, steps;
};

static __device__ __forceinline__ Chunk chunk_at(const u32* chunks, u32 index) {
    const u32* at = chunks + index * CHUNK;
    Chunk chunk = {at[0], at[1], at[2], at[3], at[4], at[5]};
    return chunk;
}

// For every state: its sequence in sorted order, and the previous state. One block per chunk.
extern "C" __global__ void describe_states(
    const u32* chunks, const u32* active, const u32* offsets, u32* sequence, u32* previous
) {
    Chunk chunk = chunk_at(chunks, blockIdx.x);
    for (u32 step = 0; step < chunk.steps; step++) {
        u32 count = active[chunk.first_step + step];
        u32 at = offsets[chunk.first_step + step];
        for (u32 row = threadIdx.x; row < count; row += blockDim.x) {
            sequence[at + row] = chunk.first_row + row;
            previous[at + row] = step > 0 ? offsets[chunk.first_step + step - 1] + row : NONE;
        }
    }
}

// Row r of y is row from[r] of x, or 0. One block per row.
extern "C" __global__ void gather(u32 columns, const float* x, const u32* from, float* y) {
    u64 row = blockIdx.x;
    u32 source = from[row];
    for (u32 column = threadIdx.x; column < columns; column += blockDim.x) {
        y[row * columns + column] = source == NONE ? 0.0f : x[(u64)source * columns + column];
    }
}

// Sums segments of rows of x: segment s (blockIdx.x) consists of the rows `order[begin..end]`.
extern "C" __global__ void segment_sums(
    u32 columns, const float* x, const u32* order, const u32* segments, float* sums
) {
    u32 begin = segments[blockIdx.x], end = segments[blockIdx.x + 1];
    u32 column = blockIdx.y * blockDim.x + threadIdx.x;
    if (column >= columns) {
        return;
    }
    float sum = 0.0f;
    for (u32 place = begin; place < end; place++) {
        sum += x[(u64)order[place] * columns + column];
    }
    sums[(u64)blockIdx.x * columns + column] = sum;
}

// Row r of the table (blockIdx.x) is the sum of segments `first[r]..first[r + 1]`.
extern "C" __global__ void segment_totals(u32 columns, const float* sums, const u32* first, float* table) {
    u32 column = blockIdx.y * blockDim.x + threadIdx.x;
    if (column >= columns) {
        return;
    }
    float sum = 0.0f;
    for (u32 segment = first[blockIdx.x]; segment < first[blockIdx.x + 1]; segment++) {
        sum += sums[(u64)segment * columns + column];
    }
    table[(u64)blockIdx.x * columns + column] = sum;
}

// Kinds of pooling, as in the host's launches.
#define POOL_MEAN 0u
#define POOL_MAXIMUM 1u
#define POOL_LAST 2u

// The steps `begin` to `end` of a sequence that belong to a slot of its pooled vector.
struct Steps {
    u32 begin, end;
};

static __device__ __forceinline__ Steps slot_steps(u32 kind, u32 slot_bytes, u32 reversed, u32 length, u32 slot) {
    u64 first = (u64)slot * slot_bytes;
    u32 begin = first < length ? (u32)first : length;
    u32 end = length - begin < slot_bytes ? length : begin + slot_bytes;
    if (kind == POOL_LAST) {
        begin = length - 1;
        end = length;
    } else if (reversed) {
        u32 other = length - end;
        end = length - begin;
        begin = other;
    }
    Steps steps = {begin, end};
    return steps;
}

// The mean or the maximum over a slot (blockIdx.z) of each sequence (blockIdx.x), with one thread per column; with
// `ids`, the rows are those of an embedding.
extern "C" __global__ void pool(
    u32 columns, u32 rows_per_chunk, const u32* chunks, const u32* offsets, const u32* lengths, u32 kind, u32 slot_bytes,
    u32 reversed, const float* x, const u32* ids, float* y
) {
    u32 column = blockIdx.y * blockDim.x + threadIdx.x;
    u32 row = blockIdx.x;
    if (column >= columns) {
        return;
    }
    Chunk chunk = chunk_at(chunks, row / rows_per_chunk);
    Steps steps = slot_steps(kind, slot_bytes, reversed, lengths[row], blockIdx.z);
    float pooled = kind == POOL_MAXIMUM ? LOWEST : 0.0f;
    for (u32 step = steps.begin; step < steps.end; step++) {
        u32 state = offsets[chunk.first_step + step] + row - chunk.first_row;
        float value = x[(u64)(ids ? ids[state] : state) * columns + column];
        if (kind == POOL_MAXIMUM) {
            pooled = value > pooled ? value : pooled;
        } else {
            pooled += value;
        }
    }
    if (kind != POOL_MAXIMUM && steps.end > steps.begin) {
        pooled /= (float)(steps.end - steps.begin);
    }
    y[((u64)row * gridDim.z + blockIdx.z) * columns + column] = pooled;
}

extern "C" __global__ void pool_backward(
    u32 columns, u32 rows_per_chunk, const u32* chunks, const u32* offsets, const u32* lengths, u32 kind, u32 slot_bytes,
    u32 reversed, u32 accumulate, const float* x, const u32* ids, const float* dy, float* dx
) {
    u32 column = blockIdx.y * blockDim.x + threadIdx.x;
    u32 row = blockIdx.x;
    if (column >= columns) {
        return;
    }
    Chunk chunk = chunk_at(chunks, row / rows_per_chunk);
    u32 length = lengths[row];
    Steps steps = slot_steps(kind, slot_bytes, reversed, length, blockIdx.z);
    float slope = dy[((u64)row * gridDim.z + blockIdx.z) * columns + column];
    u32 largest = NONE;
    if (kind == POOL_MAXIMUM) {
        float most = LOWEST;
        for (u32 step = steps.begin; step < steps.end; step++) {
            u32 state = offsets[chunk.first_step + step] + row - chunk.first_row;
            float value = x[(u64)(ids ? ids[state] : state) * columns + column];
            if (value > most) {
                most = value;
                largest = step;
            }
        }
    } else {
        slope /= (float)(steps.end - steps.begin);
    }
    // The steps before the last one belong to no slot: their gradient is 0.
    for (u32 step = kind == POOL_LAST ? 0 : steps.begin; step < steps.end; step++) {
        bool has = kind == POOL_MAXIMUM ? step == largest : step >= steps.begin;
        u64 at = (u64)(offsets[chunk.first_step + step] + row - chunk.first_row) * columns + column;
        float found = has ? slope : 0.0f;
        dx[at] = accumulate ? dx[at] + found : found;
    }
}

// Copies row r of x to row places[r] * stride + offset of y.
extern "C" __global__ void put_rows(
    u64 count, u32 columns, const u32* places, u32 stride, u32 offset, const float* x, float* y
) {
    u64 index = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count) {
        u64 row = (u64)places[index / columns] * stride + offset;
        y[row * columns + index % columns] = x[index];
    }
}

// Row r of y is the sum of row ids[r] of a table and row other_ids[r] of another.
extern "C" __global__ void add_looked_up(
    u64 count, u32 columns, const float* table, const u32* ids, const float* other, const u32* other_ids, float* y
) {
    u64 index = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count) {
        u64 row = index / columns, column = index % columns;
        y[index] = table[(u64)ids[row] * columns + column] + other[(u64)other_ids[row] * columns + column];
    }
}

// Copies row places[r] * stride + offset of x to row r of y.
extern "C" __global__ void take_rows(
    u64 count, u32 columns, const u32* places, u32 stride, u32 offset, const float* x, float* y
) {
    u64 index = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count) {
        u64 row = (u64)places[index / columns] * stride + offset;
        y[index] = x[row * columns + index % columns];
    }
}

// Copies column c of x `[rows, columns]` to column first + c of y `[rows, total]`.
extern "C" __global__ void put_columns(u64 count, u32 columns, u32 total, u32 first, const float* x, float* y) {
    u64 index = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count) {
        y[index / columns * total + first + index % columns] = x[index];
    }
}

// Copies column first + c of x `[rows, total]` to column c of y `[rows, columns]`.
extern "C" __global__ void take_columns(u64 count, u32 columns, u32 total, u32 first, const float* x, float* y) {
    u64 index = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count) {
        y[index] = x[index / columns * total + first + index % columns];
    }
}

extern "C" __global__ void add(u64 count, const float* x, float* y) {
    u64 index = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count) {
        y[index] += x[index];
    }
}
