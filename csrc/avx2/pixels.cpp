// AVX2 gather, and the table of this set's kernels.
#include "target.hpp"

#if FCNKIT_X86
#include <immintrin.h>

#include "avx2/avx2.hpp"
#include "dispatch.hpp"
#include "scalar/scalar.hpp"

FCNKIT_TARGET_BEGIN(FCNKIT_AVX2)
namespace fcnkit::avx2 {
namespace {

void store(float* to, __m256 values) { _mm256_storeu_ps(to, values); }

void store(std::uint16_t* to, __m256 values) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                     _mm256_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT));
}

// Puts the byte of a channel of each of four pixels into a 32-bit lane, in both halves.
__m256i lanes_of(int channel) {
    alignas(16) std::uint8_t from[16];
    for (int k = 0; k < 16; ++k) {
        from[k] = static_cast<std::uint8_t>(k % 4 == 0 ? 3 * (k / 4) + channel : 0x80);
    }
    return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(from)));
}

// Eight pixels at a time, four from each of two loads of 16 bytes. Returns how many are done: the
// last nine or so are left, for the loads must stay inside.
template <class T>
std::size_t normalize_planes(const std::uint8_t* rgb, std::size_t n, const Normalize& normalize,
                             T* const planes[3]) {
    __m256i from[3];
    __m256 scale[3], bias[3];
    for (int c = 0; c < 3; ++c) {
        from[c] = lanes_of(c);
        scale[c] = _mm256_set1_ps(normalize.scale[c]);
        bias[c] = _mm256_set1_ps(normalize.bias[c]);
    }
    const auto value = [&](__m256i bytes, int c) {
        const __m256i lanes = _mm256_shuffle_epi8(bytes, from[c]);
        return _mm256_fmadd_ps(_mm256_cvtepi32_ps(lanes), scale[c], bias[c]);
    };
    T* const red = planes[0];
    T* const green = planes[1];
    T* const blue = planes[2];
    std::size_t i = 0;
    for (; 3 * i + 28 <= 3 * n; i += 8) {
        const auto* at = reinterpret_cast<const __m128i*>(rgb + 3 * i);
        const auto* next = reinterpret_cast<const __m128i*>(rgb + 3 * i + 12);
        const __m256i bytes = _mm256_inserti128_si256(
            _mm256_castsi128_si256(_mm_loadu_si128(at)), _mm_loadu_si128(next), 1);
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

}  // namespace fcnkit::avx2
FCNKIT_TARGET_END

namespace fcnkit {

const Table& avx2_table() {
    static const Table table = {
        "avx2",
        avx2::decode,
        avx2::encode,
        avx2::overlay,
        avx2::gather_float,
        avx2::gather_half,
        avx2::argmax<float>,
        avx2::argmax<Half>,
        avx2::argmax<Brain>,
        avx2::accumulate<float>,
        avx2::accumulate<Half>,
        avx2::accumulate<Brain>,
        scalar::confusion,
    };
    return table;
}

}  // namespace fcnkit
#endif
