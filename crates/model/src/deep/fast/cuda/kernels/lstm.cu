// The LSTM (Hochreiter and Schmidhuber 1997, forget gate of Gers et al. 2000) over packed sequences; gates in the order
// input, forget, candidate, output.
//
// `lstm_forward_*` and `lstm_backward_*` run a whole layer in one launch. A group of adjacent blocks in x processes a
// chunk of sequences from its first step to its last. Each block owns some units, and its threads keep the recurrent
// weights of these units in registers for all steps: 128 weights per thread. The blocks of a group exchange data
// through global memory, with a barrier of the group between steps, so all blocks of the launch must be resident. The
// layers of both directions are two jobs of the same launch (blockIdx.z). The number in a kernel's name is the largest
// state that it supports.
//
// A step is short, so performance depends on how often it waits. Data that do not depend on the previous step are read
// before the barrier, and sums shared by several threads are combined between the lanes of a warp, without shared
// memory.
//
// `lstm_cell_forward` and `lstm_cell_backward` compute one step of layers that are too large for this, between matrix
// products.

// Two blocks share a multiprocessor: while one waits, the other computes.
#define LSTM_THREADS 128u
// Terms of each sum per thread.
#define DEPTH 32u
// Space for these terms in shared memory, including four values of padding, so that lanes which read different parts at
// the same time access different banks.
#define PART (DEPTH + 4u)
// Maximum number of sequences per chunk.
#define MOST_ROWS 32u

static __device__ __forceinline__ float4 sum_over_xor(float4 value, float4 other, u32 distance) {
    value.x += __shfl_xor_sync(ALL_LANES, other.x, distance);
    value.y += __shfl_xor_sync(ALL_LANES, other.y, distance);
    value.z += __shfl_xor_sync(ALL_LANES, other.z, distance);
    value.w += __shfl_xor_sync(ALL_LANES, other.w, distance);
    return value;
}

// Each of LANES adjacent lanes has a part of the sums of LANES rows; it obtains the complete sums of the row with its
// own number.
template <u32 LANES>
static __device__ __forceinline__ float4 row_sums(float4 (&sums)[LANES], u32 lane) {
#pragma unroll
    for (u32 half = LANES / 2; half > 0; half /= 2) {
        bool upper = (lane & half) != 0;
#pragma unroll
        for (u32 row = 0; row < half; row++) {
            float4 kept = upper ? sums[row + half] : sums[row];
            float4 given = upper ? sums[row] : sums[row + half];
            sums[row] = sum_over_xor(kept, given, half);
        }
    }
    return sums[0];
}

static __device__ __forceinline__ void add_product(float4& sum, const float (&weight)[4][DEPTH], u32 k, float value) {
    sum.x += weight[0][k] * value;
    sum.y += weight[1][k] * value;
    sum.z += weight[2][k] * value;
    sum.w += weight[3][k] * value;
}

// The products of a thread's weights with DEPTH values in shared memory.
static __device__ __forceinline__ float4 products(const float (&weight)[4][DEPTH], const float* values) {
    float4 sum = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (u32 k = 0; k < DEPTH; k += 4) {
        float4 value = *(const float4*)(values + k);
        add_product(sum, weight, k, value.x);
        add_product(sum, weight, k + 1, value.y);
        add_product(sum, weight, k + 2, value.z);
        add_product(sum, weight, k + 3, value.w);
    }
    return sum;
}

struct CellForward {
    float i, f, g, o, cell, hidden;
};

static __device__ __forceinline__ CellForward cell_forward(
    float i, float f, float g, float o, float previous, u32 with_tanh
) {
    CellForward out;
    out.i = sigmoid(i);
    out.f = sigmoid(f);
    out.g = activate(g, with_tanh);
    out.o = sigmoid(o);
    out.cell = out.f * previous + out.i * out.g;
    out.hidden = out.o * activate(out.cell, with_tanh);
    return out;
}

// Factors that turn the gradient of a cell's output, and the one carried back by the next step, into the cell's
// gradients.
struct CellSlopes {
    float i, f, g, o, cell, carry;
};

// Computes the factors from activated gates, the cell and the previous cell.
static __device__ __forceinline__ CellSlopes cell_slopes(
    float i, float f, float g, float o, float cell, float previous, u32 with_tanh
) {
    float activated = activate(cell, with_tanh);
    CellSlopes slopes;
    slopes.i = g * i * (1.0f - i);
    slopes.f = previous * f * (1.0f - f);
    slopes.g = i * slope(g, with_tanh);
    slopes.o = activated * o * (1.0f - o);
    slopes.cell = o * slope(activated, with_tanh);
    slopes.carry = f;
    return slopes;
}

struct CellBackward {
    float i, f, g, o, carry;
};

static __device__ __forceinline__ CellBackward cell_backward(CellSlopes slopes, float dh, float carry) {
    float dcell = dh * slopes.cell + carry;
    return {dcell * slopes.i, dcell * slopes.f, dcell * slopes.g, dh * slopes.o, dcell * slopes.carry};
}

struct ForwardJob {
    const float* weight;  // [4 * hidden, hidden]
    const float* bias;    // [4 * hidden]
    const float* table;   // input products by id, or null if they are in `gates`
    const u32* ids;
    float* gates;
    float* cells;
    float* hidden;
    u32* counters;        // one per group, initially 0
};

// Inputs of a unit in one state, in addition to the previous state.
struct ForwardInput {
    float i, f, g, o, cell;
};

// Reads row `from` of the table or of a step's gates, and row `row` of the previous step, if there is one.
static __device__ __forceinline__ ForwardInput forward_input(
    const float* gates, u32 from, u32 hidden, const float* cells_before, u32 row
) {
    const float* input = gates + 4 * from * hidden;
    return {input[0], input[hidden], input[2 * hidden], input[3 * hidden],
            cells_before ? cells_before[row * hidden] : 0.0f};
}

// A unit's gates belong to DEPTHS adjacent lanes, each with DEPTH terms of their sums. The lanes process DEPTHS rows at
// once, and each then computes the cell of one row.
template <u32 DEPTHS>
static __device__ __forceinline__ void forward_layer(
    ForwardJob job, const u32* chunks, const u32* active, const u32* offsets, u32 chunk_count, u32 hidden,
    u32 with_tanh
) {
    constexpr u32 UNITS = LSTM_THREADS / DEPTHS;
    constexpr u32 PADDED = DEPTHS * DEPTH;
    constexpr u32 STRIDE = DEPTHS * PART;
    constexpr u32 LOADS = MOST_ROWS * PADDED / LSTM_THREADS;
    DYNAMIC_SHARED(float, states);                   // [MOST_ROWS][DEPTHS][PART]
    u32* ids = (u32*)(states + MOST_ROWS * STRIDE);  // [2][MOST_ROWS], for this step and the next
    float* bias = (float*)(ids + 2 * MOST_ROWS);     // [4][UNITS]
    u32 depth = threadIdx.x % DEPTHS;
    u32 unit = threadIdx.x / DEPTHS;
    u32 column = blockIdx.x * UNITS + unit;

    float weight[4][DEPTH];
#pragma unroll
    for (u32 gate = 0; gate < 4; gate++) {
#pragma unroll
        for (u32 k = 0; k < DEPTH; k++) {
            u32 from = depth * DEPTH + k;
            bool exists = column < hidden && from < hidden;
            weight[gate][k] = exists ? job.weight[((u64)gate * hidden + column) * hidden + from] : 0.0f;
        }
        if (depth == 0) {
            bias[gate * UNITS + unit] = column < hidden ? job.bias[gate * hidden + column] : 0.0f;
        }
    }

    u32 turns = 0;
    for (u32 index = blockIdx.y; index < chunk_count; index += gridDim.y) {
        Chunk chunk = chunk_at(chunks, index);
        __syncthreads();
        if (job.table && threadIdx.x < active[chunk.first_step]) {
            ids[threadIdx.x] = job.ids[offsets[chunk.first_step] + threadIdx.x];
        }
        __syncthreads();
        u32 before = 0;
        for (u32 step = 0; step < chunk.steps; step++) {
            u32 count = active[chunk.first_step + step];
            u32 at = offsets[chunk.first_step + step];
            const u32* ids_now = ids + step % 2 * MOST_ROWS;
            float* gates = job.gates + (u64)at * 4 * hidden + column;
            const float* source = job.table ? job.table + column : gates;
            const float* cells_before = step > 0 ? job.cells + (u64)before * hidden + column : 0;
            ForwardInput next = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
            if (depth < count && column < hidden) {
                u32 from = job.table ? ids_now[depth] : depth;
                next = forward_input(source, from, hidden, cells_before, depth);
            }
            u32 id_of_next = 0;
            if (job.table && step + 1 < chunk.steps && threadIdx.x < active[chunk.first_step + step + 1]) {
                id_of_next = job.ids[offsets[chunk.first_step + step + 1] + threadIdx.x];
            }
            if (step > 0) {
                turns++;
                group_barrier(job.counters + blockIdx.y, turns);
                const float* from = job.hidden + (u64)before * hidden;
#pragma unroll 2
                for (u32 first = 0; first < LOADS; first += 8) {
                    float loaded[8];
#pragma unroll
                    for (u32 load = 0; load < 8; load++) {
                        u32 place = (first + load) * LSTM_THREADS + threadIdx.x;
                        u32 row = place / PADDED;
                        u32 k = place % PADDED;
                        loaded[load] = row < count && k < hidden ? __ldcg(from + (u64)row * hidden + k) : 0.0f;
                    }
#pragma unroll
                    for (u32 load = 0; load < 8; load++) {
                        u32 place = (first + load) * LSTM_THREADS + threadIdx.x;
                        u32 k = place % PADDED;
                        states[place / PADDED * STRIDE + k / DEPTH * PART + k % DEPTH] = loaded[load];
                    }
                }
            }
            if (threadIdx.x < MOST_ROWS) {
                ids[(step + 1) % 2 * MOST_ROWS + threadIdx.x] = id_of_next;
            }
            __syncthreads();
            for (u32 first = 0; first < count; first += DEPTHS) {
                u32 row = first + depth;
                ForwardInput input = next;
                u32 ahead = row + DEPTHS;
                if (ahead < count && column < hidden) {
                    u32 from = job.table ? ids_now[ahead] : ahead;
                    next = forward_input(source, from, hidden, cells_before, ahead);
                }
                float4 sum = {0.0f, 0.0f, 0.0f, 0.0f};
                if (step > 0) {
                    float4 sums[DEPTHS];
#pragma unroll
                    for (u32 other = 0; other < DEPTHS; other++) {
                        sums[other] = products(weight, states + (first + other) * STRIDE + depth * PART);
                    }
                    sum = row_sums<DEPTHS>(sums, depth);
                }
                if (row < count && column < hidden) {
                    CellForward out = cell_forward(
                        input.i + bias[unit] + sum.x, input.f + bias[UNITS + unit] + sum.y,
                        input.g + bias[2 * UNITS + unit] + sum.z, input.o + bias[3 * UNITS + unit] + sum.w,
                        input.cell, with_tanh
                    );
                    u64 state = ((u64)at + row) * hidden + column;
                    gates[4 * row * hidden] = out.i;
                    gates[(4 * row + 1) * hidden] = out.f;
                    gates[(4 * row + 2) * hidden] = out.g;
                    gates[(4 * row + 3) * hidden] = out.o;
                    job.cells[state] = out.cell;
                    job.hidden[state] = out.hidden;
                }
            }
            before = at;
        }
    }
}

struct BackwardJob {
    const float* weight;  // [4 * hidden, hidden]
    float* gates;         // activated; their gradients before activation afterwards
    const float* cells;
    const float* dh;      // [states, hidden]
    float* exchange;      // [groups, 2, blocks of a group, rows of a chunk, hidden padded to DEPTHS * DEPTH]
    u32* counters;        // one per group, initially 0
    u64 unused[2];
};

// Each block computes the gradients of its units' gates and their contributions to the gradients of all units one step
// before; the blocks' contributions are added in order of the blocks. For the gradients of the gates, each thread has
// one unit and every DEPTHS-th row. In the product, it has four columns of the step before and DEPTH of the block's
// gates, and PARTS adjacent lanes share a sum.
template <u32 DEPTHS>
static __device__ __forceinline__ void backward_layer(
    BackwardJob job, const u32* chunks, const u32* active, const u32* offsets, u32 chunk_count,
    u32 chunk_rows, u32 hidden, u32 with_tanh
) {
    constexpr u32 UNITS = LSTM_THREADS / DEPTHS;
    constexpr u32 PARTS = 4 * UNITS / DEPTH;
    constexpr u32 PADDED = DEPTHS * DEPTH;
    constexpr u32 WIDTH = PARTS * PART;
    constexpr u32 ROWS = MOST_ROWS / DEPTHS;
    DYNAMIC_SHARED(float, slopes);  // [MOST_ROWS][PARTS][PART]
    float* carry = slopes + MOST_ROWS * WIDTH + threadIdx.x;  // [ROWS][LSTM_THREADS], separate for each thread
    u32 unit = threadIdx.x % UNITS;
    u32 lane = threadIdx.x / UNITS;
    u32 column = blockIdx.x * UNITS + unit;
    u32 part = threadIdx.x % PARTS;
    u32 quad = threadIdx.x / PARTS;

    float weight[4][DEPTH];
#pragma unroll
    for (u32 k = 0; k < DEPTH; k++) {
        u32 gate = (part * DEPTH + k) / UNITS;
        u32 row = blockIdx.x * UNITS + (part * DEPTH + k) % UNITS;
#pragma unroll
        for (u32 c = 0; c < 4; c++) {
            u32 to = 4 * quad + c;
            bool exists = row < hidden && to < hidden;
            weight[c][k] = exists ? job.weight[((u64)gate * hidden + row) * hidden + to] : 0.0f;
        }
    }

    u32 plane = chunk_rows * PADDED;
    float* exchange = job.exchange + (u64)blockIdx.y * 2 * gridDim.x * plane;  // of this group
    u32 turns = 0;
    for (u32 index = blockIdx.y; index < chunk_count; index += gridDim.y) {
        Chunk chunk = chunk_at(chunks, index);
        u32 later = 0;
        for (u32 step = chunk.steps; step-- > 0;) {
            u32 count = active[chunk.first_step + step];
            u32 at = offsets[chunk.first_step + step];
            u32 before = step > 0 ? offsets[chunk.first_step + step - 1] : 0;
            const float* received = exchange + (step + 1) % 2 * gridDim.x * plane + column;
            float* sent = exchange + (step % 2 * gridDim.x + blockIdx.x) * plane;
            float* gates = job.gates + (u64)at * 4 * hidden + column;
            const float* cells = job.cells + (u64)at * hidden + column;
            const float* cells_before = job.cells + (u64)before * hidden + column;
            const float* dh_of_step = job.dh + (u64)at * hidden + column;
            CellSlopes slopes_of[ROWS];
#pragma unroll
            for (u32 own = 0; own < ROWS; own++) {
                u32 row = lane + own * DEPTHS;
                if (row < count && column < hidden) {
                    slopes_of[own] = cell_slopes(
                        gates[4 * row * hidden], gates[(4 * row + 1) * hidden], gates[(4 * row + 2) * hidden],
                        gates[(4 * row + 3) * hidden], cells[row * hidden],
                        step > 0 ? cells_before[row * hidden] : 0.0f, with_tanh
                    );
                }
            }
            // The very first step has nothing to wait for; the first step of a later chunk waits until the data sent
            // last have been read.
            if (index != blockIdx.y || later > 0) {
                turns++;
                group_barrier(job.counters + blockIdx.y, turns);
            }
            float dh[ROWS];
#pragma unroll
            for (u32 own = 0; own < ROWS; own++) {
                u32 row = lane + own * DEPTHS;
                dh[own] = row < count && column < hidden ? dh_of_step[row * hidden] : 0.0f;
                if (row < later && column < hidden) {
                    float sum = 0.0f;
                    for (u32 block = 0; block < gridDim.x; block++) {
                        sum += __ldcg(received + block * plane + row * PADDED);
                    }
                    dh[own] += sum;
                }
            }
#pragma unroll
            for (u32 own = 0; own < ROWS; own++) {
                u32 row = lane + own * DEPTHS;
                CellBackward out = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
                if (row < count && column < hidden) {
                    float* carried = carry + own * LSTM_THREADS;
                    out = cell_backward(slopes_of[own], dh[own], row < later ? *carried : 0.0f);
                    *carried = out.carry;
                    gates[4 * row * hidden] = out.i;
                    gates[(4 * row + 1) * hidden] = out.f;
                    gates[(4 * row + 2) * hidden] = out.g;
                    gates[(4 * row + 3) * hidden] = out.o;
                }
                float of_gate[4] = {out.i, out.f, out.g, out.o};
#pragma unroll
                for (u32 gate = 0; gate < 4; gate++) {
                    u32 k = gate * UNITS + unit;
                    slopes[row * WIDTH + k / DEPTH * PART + k % DEPTH] = of_gate[gate];
                }
            }
            later = count;
            if (step == 0) {
                continue;
            }
            __syncthreads();
            for (u32 first = 0; first < count; first += PARTS) {
                float4 sums[PARTS];
#pragma unroll
                for (u32 other = 0; other < PARTS; other++) {
                    sums[other] = products(weight, slopes + (first + other) * WIDTH + part * PART);
                }
                float4 sum = row_sums<PARTS>(sums, part);
                u32 row = first + part;
                if (row < count) {
                    *(float4*)(sent + row * PADDED + 4 * quad) = sum;
                }
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(LSTM_THREADS, 2) lstm_forward_128(
    ForwardJob first, ForwardJob second, const u32* chunks, const u32* active, const u32* offsets, u32 chunk_count,
    u32 hidden, u32 with_tanh
) {
    forward_layer<4>(blockIdx.z == 0 ? first : second, chunks, active, offsets, chunk_count, hidden, with_tanh);
}

extern "C" __global__ void __launch_bounds__(LSTM_THREADS, 2) lstm_forward_256(
    ForwardJob first, ForwardJob second, const u32* chunks, const u32* active, const u32* offsets, u32 chunk_count,
    u32 hidden, u32 with_tanh
) {
    forward_layer<8>(blockIdx.z == 0 ? first : second, chunks, active, offsets, chunk_count, hidden, with_tanh);
}

extern "C" __global__ void __launch_bounds__(LSTM_THREADS, 2) lstm_backward_128(
    BackwardJob first, BackwardJob second, const u32* chunks, const u32* active, const u32* offsets, u32 chunk_count,
    u32 chunk_rows, u32 hidden, u32 with_tanh
) {
    backward_layer<4>(
        blockIdx.z == 0 ? first : second, chunks, active, offsets, chunk_count, chunk_rows, hidden, with_tanh
    );
}

extern "C" __global__ void __launch_bounds__(LSTM_THREADS, 2) lstm_backward_256(
    BackwardJob first, BackwardJob second, const u32* chunks, const u32* active, const u32* offsets, u32 chunk_count,
    u32 chunk_rows, u32 hidden, u32 with_tanh
) {
    backward_layer<8>(
        blockIdx.z == 0 ? first : second, chunks, active, offsets, chunk_count, chunk_rows, hidden, with_tanh
    );
}

// One step of `rows` sequences; `gates` are before activation and without bias.
extern "C" __global__ void lstm_cell_forward(
    u32 rows, u32 hidden, u32 with_tanh, const float* bias, const float* previous, float* gates, float* cells,
    float* states
) {
    u64 index = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= (u64)rows * hidden) {
        return;
    }
    u64 row = index / hidden;
    u32 column = (u32)(index % hidden);
    float* gate = gates + row * 4 * hidden + column;
    CellForward out = cell_forward(
        gate[0] + bias[column], gate[hidden] + bias[hidden + column], gate[2 * hidden] + bias[2 * hidden + column],
        gate[3 * hidden] + bias[3 * hidden + column], previous ? previous[index] : 0.0f, with_tanh
    );
    gate[0] = out.i;
    gate[hidden] = out.f;
    gate[2 * hidden] = out.g;
    gate[3 * hidden] = out.o;
    cells[index] = out.cell;
    states[index] = out.hidden;
}

// The backward pass of one step; the first `later` sequences have a next step.
extern "C" __global__ void lstm_cell_backward(
    u32 rows, u32 later, u32 hidden, u32 with_tanh, float* gates, const float* cells, const float* previous,
    const float* dh, float* carry
) {
    u64 index = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= (u64)rows * hidden) {
        return;
    }
    u64 row = index / hidden;
    u32 column = (u32)(index % hidden);
    float* gate = gates + row * 4 * hidden + column;
    CellSlopes slopes = cell_slopes(
        gate[0], gate[hidden], gate[2 * hidden], gate[3 * hidden], cells[index], previous ? previous[index] : 0.0f,
        with_tanh
    );
    CellBackward out = cell_backward(slopes, dh[index], row < later ? carry[index] : 0.0f);
    gate[0] = out.i;
    gate[hidden] = out.f;
    gate[2 * hidden] = out.g;
    gate[3 * hidden] = out.o;
    carry[index] = out.carry;
}
