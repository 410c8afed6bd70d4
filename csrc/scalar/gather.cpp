// Portable gather.
#include <type_traits>

#include "kernel_set.hpp"

namespace fcnkit {
namespace {

template <class T>
void look_up(const std::uint8_t* rgb, std::size_t n, const T (&exact)[3][256],
             T* const planes[3]) {
    T* const red = planes[0];
    T* const green = planes[1];
    T* const blue = planes[2];
    for (std::size_t x = 0; x < n; ++x) {
        red[x] = exact[0][rgb[3 * x]];
        green[x] = exact[1][rgb[3 * x + 1]];
        blue[x] = exact[2][rgb[3 * x + 2]];
    }
}

}  // namespace

template <class T>
void Scalar::gather(const std::uint8_t* rgb, std::size_t n, const Normalize& normalize,
                    T* const planes[3]) {
    if constexpr (std::is_same_v<T, float>) {
        look_up(rgb, n, normalize.exact, planes);
    } else {
        look_up(rgb, n, normalize.exact_half, planes);
    }
}

template void Scalar::gather(const std::uint8_t*, std::size_t, const Normalize&, float* const[3]);
template void Scalar::gather(const std::uint8_t*, std::size_t, const Normalize&,
                             std::uint16_t* const[3]);

}  // namespace fcnkit
