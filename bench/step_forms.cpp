// The gather and update of argus.kernels.reference as one pass over each row: the least memory
// traffic a CPU can do with. Only measured, never used: see kernels/README.md.

#include <cstdint>

namespace {

constexpr int64_t kMaxStates = 8;
constexpr int64_t kBlock = 1024;  // elements whose states stay in the first-level cache

}  // namespace

extern "C" {

void gather(int64_t count, int64_t pitch, int64_t size, int64_t lanes, const float* states,
            const int64_t* slots, const float* weights, float* inputs) {
  for (int64_t lane = 0; lane < lanes; ++lane) {
    const float* from = states + slots[lane] * size;
    const float* w = weights + lane * count;
    float* to = inputs + lane * size;
    for (int64_t i = 0; i < size; ++i) to[i] = w[0] * from[i];
    for (int64_t j = 1; j < count; ++j) {
      for (int64_t i = 0; i < size; ++i) to[i] += w[j] * from[j * pitch + i];
    }
  }
}

void update(int64_t count, int64_t pitch, int64_t size, int64_t rows, float* states,
            const int64_t* slots, const float* output, const int64_t* negative,
            const int64_t* positive, const float* guidance, const float* coefficients,
            const float* noise) {
  float fresh[kMaxStates][kBlock], e[kBlock];
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t start = 0; start < size; start += kBlock) {
      const int64_t n = size - start < kBlock ? size - start : kBlock;
      const float* low = output + negative[r] * size + start;
      const float* high = output + positive[r] * size + start;
      for (int64_t i = 0; i < n; ++i) e[i] = low[i] + guidance[r] * (high[i] - low[i]);
      float* home = states + slots[r] * size + start;
      for (int64_t j = 0; j < count; ++j) {
        const float* line = coefficients + (r * count + j) * (count + 2);
        for (int64_t i = 0; i < n; ++i) fresh[j][i] = line[count] * e[i];
        for (int64_t k = 0; k < count; ++k) {
          for (int64_t i = 0; i < n; ++i) fresh[j][i] += line[k] * home[k * pitch + i];
        }
        if (noise == nullptr) continue;
        const float* z = noise + r * size + start;
        for (int64_t i = 0; i < n; ++i) fresh[j][i] += line[count + 1] * z[i];
      }
      for (int64_t j = 0; j < count; ++j) {
        for (int64_t i = 0; i < n; ++i) home[j * pitch + i] = fresh[j][i];
      }
    }
  }
}

}  // extern "C"
