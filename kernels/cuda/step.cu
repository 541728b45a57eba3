// A step's gather and update; kernels/reference.py says what they compute.
//
// The interface is plain C: raw device pointers, sizes and a stream, so that the library needs
// neither torch's headers nor its ABI and serves every version of torch. Products and sums round
// one by one, in the reference's order: memory is the limit here, and a row's bits stay the same
// whichever implementation a node has chosen.

#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

namespace {

constexpr int kThreads = 256;
constexpr int kWide = 4;  // elements of a thread where alignment allows

__device__ inline float to_float(float value) { return value; }
__device__ inline float to_float(__half value) { return __half2float(value); }
__device__ inline float to_float(__nv_bfloat16 value) { return __bfloat162float(value); }

__device__ inline void from_float(float value, float* to) { *to = value; }
__device__ inline void from_float(float value, __half* to) { *to = __float2half_rn(value); }
__device__ inline void from_float(float value, __nv_bfloat16* to) { *to = __float2bfloat16_rn(value); }

// V neighbours, read and written in one access.
template <typename T, int V>
struct alignas(sizeof(T) * V) Pack {
  T value[V];
};

template <int V, typename T>
__device__ inline Pack<T, V> load(const T* from) {
  return *reinterpret_cast<const Pack<T, V>*>(from);
}

template <int V, typename T>
__device__ inline void store(T* to, const Pack<T, V>& pack) {
  *reinterpret_cast<Pack<T, V>*>(to) = pack;
}

// sum + factor * term, rounded twice.
template <int V>
__device__ inline void add_product(Pack<float, V>* sum, float factor, const Pack<float, V>& term) {
#pragma unroll
  for (int i = 0; i < V; ++i) sum->value[i] = __fadd_rn(sum->value[i], __fmul_rn(factor, term.value[i]));
}

template <int V>
__device__ inline Pack<float, V> product(float factor, const Pack<float, V>& term) {
  Pack<float, V> result;
#pragma unroll
  for (int i = 0; i < V; ++i) result.value[i] = __fmul_rn(factor, term.value[i]);
  return result;
}

// V elements of a lane of the model's output, starting at element `at` in (C, H, W) order.
template <int V, typename T>
__device__ inline Pack<float, V> load_output(const T* lane, int64_t at, int64_t plane,
                                             int64_t channels, bool channels_last) {
  Pack<float, V> result;
  if (!channels_last) {
    const Pack<T, V> raw = load<V>(lane + at);
#pragma unroll
    for (int i = 0; i < V; ++i) result.value[i] = to_float(raw.value[i]);
    return result;
  }
#pragma unroll
  for (int i = 0; i < V; ++i) {
    result.value[i] = to_float(lane[(at + i) % plane * channels + (at + i) / plane]);
  }
  return result;
}

template <typename T, int S, int V>
__global__ void gather_kernel(const float* states, int64_t pitch, int64_t size,
                              const int64_t* lane_slots, const float* weights, T* inputs) {
  const int64_t lane = blockIdx.y;
  const int64_t at = (int64_t(blockIdx.x) * kThreads + threadIdx.x) * V;
  if (at >= size) return;
  const float* from = states + lane_slots[lane] * size + at;
  Pack<float, V> sum = product(weights[lane * S], load<V>(from));
#pragma unroll
  for (int j = 1; j < S; ++j) add_product(&sum, weights[lane * S + j], load<V>(from + j * pitch));
  Pack<T, V> result;
#pragma unroll
  for (int i = 0; i < V; ++i) from_float(sum.value[i], &result.value[i]);
  store(inputs + lane * size + at, result);
}

template <typename T, int S, int V>
__global__ void update_kernel(float* states, int64_t pitch, int64_t size, int64_t padding,
                              const int64_t* slots, const T* output, const int64_t* negative,
                              const int64_t* positive, const float* guidance,
                              const float* coefficients, const float* noise, int64_t channels,
                              bool channels_last) {
  const int64_t row = blockIdx.y;
  const int64_t at = (int64_t(blockIdx.x) * kThreads + threadIdx.x) * V;
  const int64_t slot = slots[row];
  if (at >= size || slot == padding) return;
  const int64_t plane = size / channels;
  const Pack<float, V> without =
      load_output<V>(output + negative[row] * size, at, plane, channels, channels_last);
  const Pack<float, V> prompted =
      load_output<V>(output + positive[row] * size, at, plane, channels, channels_last);

  Pack<float, V> terms[S + 2];
  float* home = states + slot * size + at;
#pragma unroll
  for (int k = 0; k < S; ++k) terms[k] = load<V>(home + k * pitch);
#pragma unroll
  for (int i = 0; i < V; ++i) {
    const float difference = __fsub_rn(prompted.value[i], without.value[i]);
    terms[S].value[i] = __fadd_rn(__fmul_rn(difference, guidance[row]), without.value[i]);
  }
  if (noise != nullptr) terms[S + 1] = load<V>(noise + row * size + at);

  const float* line = coefficients + row * S * (S + 2);
#pragma unroll
  for (int j = 0; j < S; ++j, line += S + 2) {
    Pack<float, V> sum = product(line[0], terms[0]);
#pragma unroll
    for (int k = 1; k <= S; ++k) add_product(&sum, line[k], terms[k]);
    if (noise != nullptr) add_product(&sum, line[S + 1], terms[S + 1]);
    store(home + j * pitch, sum);
  }
}

bool aligned(const void* pointer, size_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

dim3 grid(int64_t size, int64_t width, int64_t count) {
  const int64_t per_block = kThreads * width;
  return dim3(unsigned((size + per_block - 1) / per_block), unsigned(count));
}

struct Gather {
  const float* states;
  int64_t pitch, size;
  const int64_t* lane_slots;
  const float* weights;
  void* inputs;
  int64_t lanes;
  cudaStream_t stream;

  template <typename T, int S>
  void launch() const {
    T* to = static_cast<T*>(inputs);
    if (size % kWide == 0 && aligned(states, 16) && aligned(inputs, sizeof(T) * kWide)) {
      gather_kernel<T, S, kWide><<<grid(size, kWide, lanes), kThreads, 0, stream>>>(
          states, pitch, size, lane_slots, weights, to);
    } else {
      gather_kernel<T, S, 1><<<grid(size, 1, lanes), kThreads, 0, stream>>>(
          states, pitch, size, lane_slots, weights, to);
    }
  }
};

struct Update {
  float* states;
  int64_t pitch, size, padding;
  const int64_t* slots;
  const void* output;
  const int64_t* negative;
  const int64_t* positive;
  const float* guidance;
  const float* coefficients;
  const float* noise;
  int64_t channels;
  bool channels_last;
  int64_t rows;
  cudaStream_t stream;

  template <typename T, int S>
  void launch() const {
    const T* from = static_cast<const T*>(output);
    const bool wide = size % kWide == 0 && aligned(states, 16) && aligned(noise, 16) &&
                      aligned(output, sizeof(T) * kWide);
    if (wide) {
      update_kernel<T, S, kWide><<<grid(size, kWide, rows), kThreads, 0, stream>>>(
          states, pitch, size, padding, slots, from, negative, positive, guidance, coefficients,
          noise, channels, channels_last);
    } else {
      update_kernel<T, S, 1><<<grid(size, 1, rows), kThreads, 0, stream>>>(
          states, pitch, size, padding, slots, from, negative, positive, guidance, coefficients,
          noise, channels, channels_last);
    }
  }
};

template <typename T, typename Launch>
int with_states(const Launch& launch, int count) {
  switch (count) {
    case 1: launch.template launch<T, 1>(); break;
    case 2: launch.template launch<T, 2>(); break;
    case 3: launch.template launch<T, 3>(); break;
    case 4: launch.template launch<T, 4>(); break;
    case 5: launch.template launch<T, 5>(); break;
    case 6: launch.template launch<T, 6>(); break;
    default: return cudaErrorInvalidValue;
  }
  return cudaGetLastError();
}

// dtype: 0 float32, 1 float16, 2 bfloat16, the order of DTYPES in cuda_step.py.
template <typename Launch>
int with_dtype(const Launch& launch, int dtype, int count) {
  switch (dtype) {
    case 0: return with_states<float>(launch, count);
    case 1: return with_states<__half>(launch, count);
    case 2: return with_states<__nv_bfloat16>(launch, count);
    default: return cudaErrorInvalidValue;
  }
}

}  // namespace

extern "C" {

// Each returns a cudaError_t; argus_step_error gives its text. Sizes count elements.

int argus_step_gather(const float* states, int64_t pitch, int64_t size, int count,
                      const int64_t* lane_slots, const float* weights, void* inputs, int dtype,
                      int64_t lanes, void* stream) {
  if (lanes == 0) return cudaSuccess;
  const Gather launch{states, pitch, size, lane_slots, weights, inputs, lanes,
                      static_cast<cudaStream_t>(stream)};
  return with_dtype(launch, dtype, count);
}

int argus_step_update(float* states, int64_t pitch, int64_t size, int64_t padding, int count,
                      const int64_t* slots, const void* output, int dtype, const int64_t* negative,
                      const int64_t* positive, const float* guidance, const float* coefficients,
                      const float* noise, int64_t channels, int channels_last, int64_t rows,
                      void* stream) {
  if (rows == 0) return cudaSuccess;
  const Update launch{states,   pitch,    size,         padding, slots,    output,
                      negative, positive, guidance,     coefficients,      noise,
                      channels, channels_last != 0,     rows,
                      static_cast<cudaStream_t>(stream)};
  return with_dtype(launch, dtype, count);
}

const char* argus_step_error(int code) {
  return cudaGetErrorString(static_cast<cudaError_t>(code));
}

// Digest of this file as it was compiled; the loader compares it with the file beside it.
const char* argus_step_source() { return ARGUS_STEP_SOURCE; }

}  // extern "C"
