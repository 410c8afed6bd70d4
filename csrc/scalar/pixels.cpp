// Portable gather, and the table of all portable kernels.
#include "dispatch.hpp"
#include "scalar/scalar.hpp"

namespace fcnkit {
namespace scalar {
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

void gather_float(const std::uint8_t* rgb, std::size_t n, const Normalize& normalize,
                  float* const planes[3]) {
    look_up(rgb, n, normalize.exact, planes);
}

void gather_half(const std::uint8_t* rgb, std::size_t n, const Normalize& normalize,
                 std::uint16_t* const planes[3]) {
    look_up(rgb, n, normalize.exact_half, planes);
}

}  // namespace scalar

const Table& scalar_table() {
    static const Table table = {
        "scalar",
        scalar::decode,
        scalar::encode,
        scalar::overlay,
        scalar::gather_float,
        scalar::gather_half,
        scalar::argmax<float>,
        scalar::argmax<Half>,
        scalar::argmax<Brain>,
        scalar::accumulate<float>,
        scalar::accumulate<Half>,
        scalar::accumulate<Brain>,
        scalar::confusion,
    };
    return table;
}

}  // namespace fcnkit
