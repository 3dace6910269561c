// The accessors of 16-bit floats that mlx/c/half.h has on ARM only; mlx-rs calls them everywhere.
#include <cstdint>
#include <cstring>

#include "mlx/c/array.h"
#include "mlx/c/error.h"
#include "mlx/c/private/mlx.h"

#if !defined(__aarch64__)
namespace {

template <class T>
int item(std::uint16_t* out, mlx_array array) {
  static_assert(sizeof(T) == sizeof *out);
  try {
    T value = mlx_array_get_(array).template item<T>();
    std::memcpy(out, &value, sizeof value);
    return 0;
  } catch (std::exception& error) {
    mlx_error(error.what());
    return 1;
  }
}

template <class T>
const std::uint16_t* data(mlx_array array) {
  try {
    return reinterpret_cast<const std::uint16_t*>(mlx_array_get_(array).template data<T>());
  } catch (std::exception& error) {
    mlx_error(error.what());
    return nullptr;
  }
}

} // namespace

using mlx::core::bfloat16_t;
using mlx::core::float16_t;

extern "C" {
int mlx_array_item_float16(std::uint16_t* out, const mlx_array array) { return item<float16_t>(out, array); }
int mlx_array_item_bfloat16(std::uint16_t* out, const mlx_array array) { return item<bfloat16_t>(out, array); }
const std::uint16_t* mlx_array_data_float16(const mlx_array array) { return data<float16_t>(array); }
const std::uint16_t* mlx_array_data_bfloat16(const mlx_array array) { return data<bfloat16_t>(array); }
}
#endif
