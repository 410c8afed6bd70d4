// What gather needs of AVX2.
#pragma once

namespace fcnkit::avx2 {
namespace {

// Eight pixels at a time, four from each of two loads of 16 bytes.
class GatherVectors {
   public:
    static constexpr std::size_t kPixels = 8, kReads = 28;
    using Pixels = __m256i;

    explicit GatherVectors(const Normalize& normalize) {
        for (int c = 0; c < 3; ++c) {
            from_[c] = lanes_of(c);
            scale_[c] = _mm256_set1_ps(normalize.scale[c]);
            bias_[c] = _mm256_set1_ps(normalize.bias[c]);
        }
    }

    static Pixels load(const std::uint8_t* rgb) {
        const auto* at = reinterpret_cast<const __m128i*>(rgb);
        const auto* next = reinterpret_cast<const __m128i*>(rgb + 12);
        return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(at)),
                                       _mm_loadu_si128(next), 1);
    }

    void store(float* to, Pixels pixels, int channel) const {
        _mm256_storeu_ps(to, normalized(pixels, channel));
    }

    void store(std::uint16_t* to, Pixels pixels, int channel) const {
        const __m256 values = normalized(pixels, channel);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                         _mm256_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT));
    }

   private:
    // Puts the byte of a channel of each of four pixels into a 32-bit lane, in both halves.
    static __m256i lanes_of(int channel) {
        alignas(16) std::uint8_t from[16];
        for (int k = 0; k < 16; ++k) {
            from[k] = static_cast<std::uint8_t>(k % 4 == 0 ? 3 * (k / 4) + channel : 0x80);
        }
        return twice(from);
    }

    __m256 normalized(Pixels pixels, int c) const {
        const __m256i lanes = _mm256_shuffle_epi8(pixels, from_[c]);
        return _mm256_fmadd_ps(_mm256_cvtepi32_ps(lanes), scale_[c], bias_[c]);
    }

    __m256i from_[3];
    __m256 scale_[3], bias_[3];
};

}  // namespace
}  // namespace fcnkit::avx2
