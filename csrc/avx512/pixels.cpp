// AVX-512 gather, and the table of this set's kernels.
#include "target.hpp"

#if FCNKIT_X86
#include <immintrin.h>

#include "avx512/avx512.hpp"
#include "dispatch.hpp"
#include "scalar/scalar.hpp"

FCNKIT_TARGET_BEGIN(FCNKIT_AVX512)
namespace fcnkit::avx512 {
namespace {

void store(float* to, __m512 values) { _mm512_storeu_ps(to, values); }

void store(std::uint16_t* to, __m512 values) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                        _mm512_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT));
}

// Index of the byte of a channel for each of 16 pixels, one per 32-bit lane.
__m512i lanes_of(int channel) {
    alignas(64) std::uint32_t from[16];
    for (int p = 0; p < 16; ++p) {
        from[p] = static_cast<std::uint32_t>(3 * p + channel);
    }
    return _mm512_load_si512(from);
}

// 16 pixels at a time, from the first 48 of 64 loaded bytes. Returns how many pixels are done:
// the last 22 or so are left, for the load must stay inside.
template <class T>
std::size_t normalize_planes(const std::uint8_t* rgb, std::size_t n, const Normalize& normalize,
                             T* const planes[3]) {
    constexpr __mmask64 kLowestBytes = 0x1111111111111111;
    __m512i from[3];
    __m512 scale[3], bias[3];
    for (int c = 0; c < 3; ++c) {
        from[c] = lanes_of(c);
        scale[c] = _mm512_set1_ps(normalize.scale[c]);
        bias[c] = _mm512_set1_ps(normalize.bias[c]);
    }
    T* const red = planes[0];
    T* const green = planes[1];
    T* const blue = planes[2];
    const auto value = [&](__m512i bytes, int c) {
        const __m512i lanes = _mm512_maskz_permutexvar_epi8(kLowestBytes, from[c], bytes);
        return _mm512_fmadd_ps(_mm512_cvtepi32_ps(lanes), scale[c], bias[c]);
    };
    std::size_t i = 0;
    for (; 3 * i + 64 <= 3 * n; i += 16) {
        const __m512i bytes = _mm512_loadu_si512(rgb + 3 * i);
        store(red + i, value(bytes, 0));
        store(green + i, value(bytes, 1));
        store(blue + i, value(bytes, 2));
    }
    return i;
}

}  // namespace

void gather_float(const std::uint8_t* rgb, std::size_t n, const Normalize& normalize,
                  float* const planes[3]) {
    const std::size_t i = normalize_planes(rgb, n, normalize, planes);
    float* const rest[3] = {planes[0] + i, planes[1] + i, planes[2] + i};
    scalar::gather_float(rgb + 3 * i, n - i, normalize, rest);
}

void gather_half(const std::uint8_t* rgb, std::size_t n, const Normalize& normalize,
                 std::uint16_t* const planes[3]) {
    const std::size_t i = normalize_planes(rgb, n, normalize, planes);
    std::uint16_t* const rest[3] = {planes[0] + i, planes[1] + i, planes[2] + i};
    scalar::gather_half(rgb + 3 * i, n - i, normalize, rest);
}

}  // namespace fcnkit::avx512
FCNKIT_TARGET_END

namespace fcnkit {

const Table& avx512_table() {
    static const Table table = {
        "avx512",
        avx512::decode,
        avx512::encode,
        avx512::overlay,
        avx512::gather_float,
        avx512::gather_half,
        avx512::argmax<float>,
        avx512::argmax<Half>,
        avx512::argmax<Brain>,
        avx512::accumulate<float>,
        avx512::accumulate<Half>,
        avx512::accumulate<Brain>,
        scalar::confusion,
    };
    return table;
}

}  // namespace fcnkit
#endif
