// The LSTM (Hochreiter and Schmidhuber 1997, forget gate of Gers et al. 2000) over packed sequences; gates in the
// order input, forget, candidate, output.
//
// `lstm_forward` and `lstm_backward` run a whole layer in one launch. A group of blocks beside each other in x takes a
// chunk of sequences from its first step to its last; each of its blocks owns `units` units, and its threads
// hold the recurrent weights of these in registers for all steps: 128 each. What the blocks of a group tell one
// another passes through global memory, with a barrier of the group after each step, so all blocks of the
// launch must be resident. The layers of both directions are two jobs of the same launch (blockIdx.z).
//
// `lstm_cell_forward` and `lstm_cell_backward` are one step for layers that are too large for this, between
// matrix products.

// Sequences whose states a block multiplies at once.
#define TILE_ROWS 8u
// Terms of each sum that a thread takes.
#define DEPTH 32u
#define LSTM_THREADS 256u

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

struct CellBackward {
    float i, f, g, o, carry;
};

// From activated gates, the cell, the one before, the gradient of the output and of the cell from the step after.
static __device__ __forceinline__ CellBackward cell_backward(
    float i, float f, float g, float o, float cell, float previous, float dh, float carry, u32 with_tanh
) {
    float activated = activate(cell, with_tanh);
    float dcell = dh * o * slope(activated, with_tanh) + carry;
    CellBackward out;
    out.i = dcell * g * i * (1.0f - i);
    out.f = dcell * previous * f * (1.0f - f);
    out.g = dcell * i * slope(g, with_tanh);
    out.o = dh * activated * o * (1.0f - o);
    out.carry = dcell * f;
    return out;
}

struct ForwardJob {
    const float* weight;  // [4 * hidden, hidden]
    const float* bias;    // [4 * hidden]
    const float* table;   // input products by id, or null where they are in `gates`
    const u32* ids;
    float* gates;
    float* cells;
    float* hidden;
    u32* counters;        // zero, one per group
};

// blockDim.x is units * depths, units a multiple of 8; `depths * DEPTH` is at least `hidden`.
extern "C" __global__ void __launch_bounds__(LSTM_THREADS, 1) lstm_forward(
    ForwardJob first, ForwardJob second, const u32* chunks, const u32* active, const u32* offsets,
    u32 chunk_count, u32 hidden, u32 units, u32 depths, u32 with_tanh
) {
    ForwardJob job = blockIdx.z == 0 ? first : second;
    u32 padded = depths * DEPTH;
    DYNAMIC_SHARED(float, states);                               // [TILE_ROWS][padded]
    float4* partial = (float4*)(states + TILE_ROWS * padded);    // [depths][TILE_ROWS][units]
    u32 unit = threadIdx.x % units;
    u32 depth = threadIdx.x / units;
    u32 column = blockIdx.x * units + unit;

    float weight[4][DEPTH];
#pragma unroll
    for (u32 gate = 0; gate < 4; gate++) {
#pragma unroll
        for (u32 k = 0; k < DEPTH; k++) {
            u32 from = depth * DEPTH + k;
            bool exists = column < hidden && from < hidden;
            weight[gate][k] = exists ? job.weight[((u64)gate * hidden + column) * hidden + from] : 0.0f;
        }
    }
    float bias[4];
#pragma unroll
    for (u32 gate = 0; gate < 4; gate++) {
        bias[gate] = column < hidden ? job.bias[gate * hidden + column] : 0.0f;
    }

    u32 turns = 0;
    for (u32 index = blockIdx.y; index < chunk_count; index += gridDim.y) {
        Chunk chunk = chunk_at(chunks, index);
        u32 before = 0;
        for (u32 step = 0; step < chunk.steps; step++) {
            u32 count = active[chunk.first_step + step];
            u32 at = offsets[chunk.first_step + step];
            for (u32 tile = 0; tile < count; tile += TILE_ROWS) {
                u32 rows = smaller(TILE_ROWS, count - tile);
                if (step > 0) {
                    const float* from = job.hidden + (u64)(before + tile) * hidden;
                    for (u32 row = 0; row < rows; row++) {
                        for (u32 k = threadIdx.x; k < padded; k += blockDim.x) {
                            states[row * padded + k] = k < hidden ? __ldcg(from + (u64)row * hidden + k) : 0.0f;
                        }
                    }
                    __syncthreads();
#pragma unroll 2
                    for (u32 row = 0; row < rows; row++) {
                        const float4* state = (const float4*)(states + row * padded + depth * DEPTH);
                        float4 sum = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
                        for (u32 k = 0; k < DEPTH / 4; k++) {
                            float4 h = state[k];
                            sum.x += weight[0][4 * k] * h.x;
                            sum.y += weight[1][4 * k] * h.x;
                            sum.z += weight[2][4 * k] * h.x;
                            sum.w += weight[3][4 * k] * h.x;
                            sum.x += weight[0][4 * k + 1] * h.y;
                            sum.y += weight[1][4 * k + 1] * h.y;
                            sum.z += weight[2][4 * k + 1] * h.y;
                            sum.w += weight[3][4 * k + 1] * h.y;
                            sum.x += weight[0][4 * k + 2] * h.z;
                            sum.y += weight[1][4 * k + 2] * h.z;
                            sum.z += weight[2][4 * k + 2] * h.z;
                            sum.w += weight[3][4 * k + 2] * h.z;
                            sum.x += weight[0][4 * k + 3] * h.w;
                            sum.y += weight[1][4 * k + 3] * h.w;
                            sum.z += weight[2][4 * k + 3] * h.w;
                            sum.w += weight[3][4 * k + 3] * h.w;
                        }
                        partial[(depth * TILE_ROWS + row) * units + unit] = sum;
                    }
                    __syncthreads();
                }
                for (u32 row = depth; row < rows && column < hidden; row += depths) {
                    u64 state = at + tile + row;
                    float* gates = job.gates + state * 4 * hidden;
                    const float* source = job.table ? job.table + (u64)job.ids[state] * 4 * hidden : gates;
                    float i = source[column] + bias[0];
                    float f = source[hidden + column] + bias[1];
                    float g = source[2 * hidden + column] + bias[2];
                    float o = source[3 * hidden + column] + bias[3];
                    float previous = 0.0f;
                    if (step > 0) {
                        float4 sum = {0.0f, 0.0f, 0.0f, 0.0f};
                        for (u32 part = 0; part < depths; part++) {
                            float4 term = partial[(part * TILE_ROWS + row) * units + unit];
                            sum.x += term.x;
                            sum.y += term.y;
                            sum.z += term.z;
                            sum.w += term.w;
                        }
                        i += sum.x;
                        f += sum.y;
                        g += sum.z;
                        o += sum.w;
                        previous = job.cells[(u64)(before + tile + row) * hidden + column];
                    }
                    CellForward out = cell_forward(i, f, g, o, previous, with_tanh);
                    gates[column] = out.i;
                    gates[hidden + column] = out.f;
                    gates[2 * hidden + column] = out.g;
                    gates[3 * hidden + column] = out.o;
                    job.cells[state * hidden + column] = out.cell;
                    job.hidden[state * hidden + column] = out.hidden;
                }
            }
            turns++;
            group_barrier(job.counters + blockIdx.y, turns);
            before = at;
        }
    }
}

struct BackwardJob {
    const float* weight;  // [4 * hidden, hidden]
    float* gates;         // activated; their gradients before activation afterwards
    const float* cells;
    const float* dh;      // [states, hidden]
    float* carry;         // [sequences, hidden]
    float* exchange;      // [groups, 2, blocks of a group, rows of a chunk, hidden]
    u32* counters;        // zero, one per group
    u64 unused;
};

// Each block makes its units' gates' gradients and what they contribute to the gradient of all units one step
// before; the blocks' contributions are added in their order.
extern "C" __global__ void __launch_bounds__(LSTM_THREADS, 1) lstm_backward(
    BackwardJob first, BackwardJob second, const u32* chunks, const u32* active, const u32* offsets,
    u32 chunk_count, u32 chunk_rows, u32 hidden, u32 units, u32 depths, u32 with_tanh
) {
    BackwardJob job = blockIdx.z == 0 ? first : second;
    u32 padded = depths * DEPTH;
    u32 width = 4 * units;
    DYNAMIC_SHARED(float, slopes);                          // [TILE_ROWS][width]
    float* partial = slopes + TILE_ROWS * width;            // [units / 8][TILE_ROWS][padded]
    u32 unit = threadIdx.x % units;
    u32 depth = threadIdx.x / units;
    u32 column = blockIdx.x * units + unit;
    // In the product a thread has four columns of the step before, and 32 of the block's gates.
    u32 quads = padded / 4;
    u32 quad = threadIdx.x % quads;
    u32 part = threadIdx.x / quads;
    u32 parts = units / 8;

    float weight[4][DEPTH];
#pragma unroll
    for (u32 k = 0; k < DEPTH; k++) {
        u32 gate = (part * DEPTH + k) / units;
        u32 row = blockIdx.x * units + (part * DEPTH + k) % units;
#pragma unroll
        for (u32 c = 0; c < 4; c++) {
            u32 to = 4 * quad + c;
            bool exists = row < hidden && to < hidden;
            weight[c][k] = exists ? job.weight[((u64)gate * hidden + row) * hidden + to] : 0.0f;
        }
    }

    u64 plane = (u64)chunk_rows * hidden;
    float* exchange = job.exchange + (u64)blockIdx.y * 2 * gridDim.x * plane;
    u32 turns = 0;
    for (u32 index = blockIdx.y; index < chunk_count; index += gridDim.y) {
        Chunk chunk = chunk_at(chunks, index);
        u32 later = 0;
        for (u32 step = chunk.steps; step-- > 0;) {
            u32 count = active[chunk.first_step + step];
            u32 at = offsets[chunk.first_step + step];
            u32 before = step > 0 ? offsets[chunk.first_step + step - 1] : 0;
            const float* received = exchange + (u64)((step + 1) % 2) * gridDim.x * plane;
            float* sent = exchange + ((u64)(step % 2) * gridDim.x + blockIdx.x) * plane;
            for (u32 tile = 0; tile < count; tile += TILE_ROWS) {
                u32 rows = smaller(TILE_ROWS, count - tile);
                for (u32 row = depth; row < rows; row += depths) {
                    CellBackward out = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
                    if (column < hidden) {
                        u64 state = at + tile + row;
                        u64 carried = (u64)(chunk.first_row + tile + row) * hidden + column;
                        float* gates = job.gates + state * 4 * hidden;
                        float dh = job.dh[state * hidden + column];
                        float carry = 0.0f;
                        if (tile + row < later) {
                            const float* from = received + (u64)(tile + row) * hidden + column;
                            float sum = 0.0f;
                            for (u32 block = 0; block < gridDim.x; block++) {
                                sum += __ldcg(from + block * plane);
                            }
                            dh += sum;
                            carry = job.carry[carried];
                        }
                        float previous = step > 0 ? job.cells[(u64)(before + tile + row) * hidden + column] : 0.0f;
                        out = cell_backward(
                            gates[column], gates[hidden + column], gates[2 * hidden + column],
                            gates[3 * hidden + column], job.cells[state * hidden + column], previous, dh, carry,
                            with_tanh
                        );
                        gates[column] = out.i;
                        gates[hidden + column] = out.f;
                        gates[2 * hidden + column] = out.g;
                        gates[3 * hidden + column] = out.o;
                        job.carry[carried] = out.carry;
                    }
                    slopes[row * width + unit] = out.i;
                    slopes[row * width + units + unit] = out.f;
                    slopes[row * width + 2 * units + unit] = out.g;
                    slopes[row * width + 3 * units + unit] = out.o;
                }
                if (step == 0) {
                    continue;
                }
                __syncthreads();
                for (u32 row = 0; row < rows; row++) {
                    const float4* slope = (const float4*)(slopes + row * width + part * DEPTH);
                    float4 sum = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
                    for (u32 k = 0; k < DEPTH / 4; k++) {
                        float4 d = slope[k];
                        sum.x += weight[0][4 * k] * d.x;
                        sum.y += weight[1][4 * k] * d.x;
                        sum.z += weight[2][4 * k] * d.x;
                        sum.w += weight[3][4 * k] * d.x;
                        sum.x += weight[0][4 * k + 1] * d.y;
                        sum.y += weight[1][4 * k + 1] * d.y;
                        sum.z += weight[2][4 * k + 1] * d.y;
                        sum.w += weight[3][4 * k + 1] * d.y;
                        sum.x += weight[0][4 * k + 2] * d.z;
                        sum.y += weight[1][4 * k + 2] * d.z;
                        sum.z += weight[2][4 * k + 2] * d.z;
                        sum.w += weight[3][4 * k + 2] * d.z;
                        sum.x += weight[0][4 * k + 3] * d.w;
                        sum.y += weight[1][4 * k + 3] * d.w;
                        sum.z += weight[2][4 * k + 3] * d.w;
                        sum.w += weight[3][4 * k + 3] * d.w;
                    }
                    ((float4*)partial)[(part * TILE_ROWS + row) * quads + quad] = sum;
                }
                __syncthreads();
                for (u32 row = 0; row < rows; row++) {
                    for (u32 to = threadIdx.x; to < hidden; to += blockDim.x) {
                        float sum = 0.0f;
                        for (u32 other = 0; other < parts; other++) {
                            sum += partial[(other * TILE_ROWS + row) * padded + to];
                        }
                        sent[(u64)(tile + row) * hidden + to] = sum;
                    }
                }
            }
            later = count;
            turns++;
            group_barrier(job.counters + blockIdx.y, turns);
        }
    }
}

// One step of `rows` sequences whose gates before activation, bias left out, are `gates`.
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

// The same backwards; the first `later` sequences have a step after this one.
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
    CellBackward out = cell_backward(
        gate[0], gate[hidden], gate[2 * hidden], gate[3 * hidden], cells[index], previous ? previous[index] : 0.0f,
        dh[index], row < later ? carry[index] : 0.0f, with_tanh
    );
    gate[0] = out.i;
    gate[hidden] = out.f;
    gate[2 * hidden] = out.g;
    gate[3 * hidden] = out.o;
    carry[index] = out.carry;
}
