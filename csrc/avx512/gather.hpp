// What gather needs of AVX-512.
#pragma once

namespace fcnkit::avx512 {
namespace {

// 16 pixels at a time, from the first 48 of 64 loaded bytes.
class GatherVectors {
   public:
    static constexpr std::size_t kPixels = 16, kReads = 64;
    using Pixels = __m512i;

    explicit GatherVectors(const Normalize& normalize) {
        for (int c = 0; c < 3; ++c) {
            from_[c] = lanes_of(c);
            scale_[c] = _mm512_set1_ps(normalize.scale[c]);
            bias_[c] = _mm512_set1_ps(normalize.bias[c]);
        }
    }

    static Pixels load(const std::uint8_t* rgb) { return _mm512_loadu_si512(rgb); }

    void store(float* to, Pixels pixels, int channel) const {
        _mm512_storeu_ps(to, normalized(pixels, channel));
    }

    void store(std::uint16_t* to, Pixels pixels, int channel) const {
        const __m512 values = normalized(pixels, channel);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                            _mm512_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT));
    }

   private:
    // Index of the byte of a channel for each of 16 pixels, one per 32-bit lane.
    static __m512i lanes_of(int channel) {
        alignas(64) std::uint32_t from[16];
        for (int p = 0; p < 16; ++p) {
            from[p] = static_cast<std::uint32_t>(3 * p + channel);
        }
        return _mm512_load_si512(from);
    }

    __m512 normalized(Pixels pixels, int c) const {
        constexpr __mmask64 kLowestBytes = 0x1111111111111111;
        const __m512i lanes = _mm512_maskz_permutexvar_epi8(kLowestBytes, from_[c], pixels);
        return _mm512_fmadd_ps(_mm512_cvtepi32_ps(lanes), scale_[c], bias_[c]);
    }

    __m512i from_[3];
    __m512 scale_[3], bias_[3];
};

}  // namespace
}  // namespace fcnkit::avx512
