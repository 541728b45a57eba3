// As much of CUDA as step.cu uses, on a CPU: its threads share nothing, so running them one after
// the other is what a GPU does. Compiled with -ffp-contract=off, since __fmul_rn never contracts.
#pragma once

#include <cstddef>
#include <cstdint>

#define __global__
#define __device__

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

inline dim3 blockIdx, threadIdx;

using cudaStream_t = void*;
using cudaError_t = int;
enum { cudaSuccess = 0, cudaErrorInvalidValue = 1 };

inline int cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t code) {
  return code == cudaErrorInvalidValue ? "invalid argument" : "no error";
}

inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }

// What a launch <<<grid, threads>>> becomes.
template <typename Kernel, typename... Arguments>
void emulate(dim3 grid, unsigned threads, Kernel kernel, Arguments... arguments) {
  for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y) {
    for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) {
      for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x) kernel(arguments...);
    }
  }
}
