// Definitions shared by all kernels. The sources form one program, in the order of `source.rs`: CUDA C without any
// header, which the runtime compiler accepts as it is. Tests compile it as C++ with a header that emulates the device.
//
// Sums have a fixed order and floating-point numbers are never added atomically, so two runs give identical bits. All
// shared memory is dynamic.

typedef unsigned int u32;
typedef unsigned long long u64;

#ifndef DYNAMIC_SHARED
#define DYNAMIC_SHARED(type, name) extern __shared__ __align__(16) unsigned char shared_memory[]; \
    type* name = (type*)shared_memory
// Runs between two reads of a counter that another block will increase.
#define WHILE_WAITING() __nanosleep(20)
#endif

// In an array of states: no state.
#define NONE 0xffffffffu
#define WARP 32u
// The lowest finite number.
#define LOWEST -3.402823466e38f
#define ALL_LANES 0xffffffffu

// Threads of a block that sums columns: this many columns times this many lanes.
#define SUM_COLUMNS 32u
#define SUM_LANES 8u

static __device__ __forceinline__ u32 smaller(u32 left, u32 right) {
    return left < right ? left : right;
}

// The error of the fast division is at most two units in the last place.
static __device__ __forceinline__ float sigmoid(float x) {
    return __fdividef(1.0f, 1.0f + expf(-x));
}

// max(x, 0) that propagates NaN.
static __device__ __forceinline__ float rectify(float x) {
    return x < 0.0f ? 0.0f : x;
}

static __device__ __forceinline__ float activate(float x, u32 with_tanh) {
    return with_tanh ? tanhf(x) : rectify(x);
}

// Slope of the activation at the output y; that of the rectifier is 0 at 0.
static __device__ __forceinline__ float slope(float y, u32 with_tanh) {
    return with_tanh ? 1.0f - y * y : (y > 0.0f ? 1.0f : 0.0f);
}

// The sum over a warp, in every lane. It is a butterfly, so the order is the same for all lanes up to symmetry.
static __device__ __forceinline__ float warp_sum(float value) {
    for (u32 distance = WARP / 2; distance > 0; distance /= 2) {
        value += __shfl_xor_sync(ALL_LANES, value, distance);
    }
    return value;
}

static __device__ __forceinline__ float warp_largest(float value) {
    for (u32 distance = WARP / 2; distance > 0; distance /= 2) {
        float other = __shfl_xor_sync(ALL_LANES, value, distance);
        value = other > value ? other : value;
    }
    return value;
}

// The sum over a block with a power of two threads, in thread 0; `working` has room for one value per thread.
static __device__ double block_sum(double value, double* working) {
    working[threadIdx.x] = value;
    __syncthreads();
    for (u32 half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            working[threadIdx.x] += working[threadIdx.x + half];
        }
        __syncthreads();
    }
    return working[0];
}

// Returns once all blocks of a group have called it `turns` times; adjacent blocks in x form a group. The counter is an
// integer, so the order of its additions does not matter. Writes before the barrier are visible after it to reads that
// bypass the first-level cache (__ldcg).
static __device__ void group_barrier(u32* counter, u32 turns) {
    __syncthreads();
    if (gridDim.x > 1) {
        if (threadIdx.x == 0) {
            __threadfence();
            atomicAdd(counter, 1u);
            while (*(volatile u32*)counter < turns * gridDim.x) {
                WHILE_WAITING();
            }
            __threadfence();
        }
        __syncthreads();
    }
}
