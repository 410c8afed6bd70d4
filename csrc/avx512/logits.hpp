// What argmax and the sums of logits need of AVX-512.
#pragma once

namespace fcnkit::avx512 {
namespace {

struct LogitVectors {
    static constexpr std::size_t kLanes = 16;
    static constexpr std::size_t kVectors = 8;
    using Floats = __m512;
    using Index = __m512i;
    using Flags = __mmask16;

    static Floats load(const float* from) { return _mm512_loadu_ps(from); }

    static Floats load(const Half* from) {
        return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    }

    static Floats load(const Brain* from) {
        return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    }

    static void store(float* to, Floats values) { _mm512_storeu_ps(to, values); }
    static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
    static Index zero() { return _mm512_setzero_si512(); }

    template <std::size_t kCount>
    static Flags any_nan(const Floats (&values)[kCount]) {
        __mmask16 found = 0;
        FCNKIT_UNROLL
        for (std::size_t v = 0; v < kCount; v += 2) {  // unordered if either is NaN
            found |= _mm512_cmp_ps_mask(values[v], values[(v + 1) % kCount], _CMP_UNORD_Q);
        }
        return found;
    }

    static Flags either(Flags a, Flags b) { return static_cast<Flags>(a | b); }
    static bool none(Flags flags) { return flags == 0; }

    // The logits of class c join the best so far.
    static void keep_larger(Floats values, std::size_t c, Floats& best, Index& index) {
        const __mmask16 larger = _mm512_cmp_ps_mask(values, best, _CMP_GT_OQ);
        best = _mm512_max_ps(values, best);
        index = _mm512_mask_set1_epi32(index, larger, static_cast<int>(c));
    }

    static void store_labels(const Index (&index)[kVectors], std::uint8_t* labels) {
        FCNKIT_UNROLL
        for (std::size_t v = 0; v < kVectors; ++v) {
            _mm_storeu_si128(reinterpret_cast<__m128i*>(labels + v * kLanes),
                             _mm512_cvtepi32_epi8(index[v]));
        }
    }

    // Only the first lanes exist in memory.
    class Partial {
       public:
        explicit Partial(std::size_t size) : lanes_(static_cast<__mmask16>((1U << size) - 1)) {}

        Floats load(const float* from) const { return _mm512_maskz_loadu_ps(lanes_, from); }

        Floats load(const Half* from) const {
            return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes_, from));
        }

        Floats load(const Brain* from) const {
            return widen(_mm256_maskz_loadu_epi16(lanes_, from));
        }

        void store_labels(const Index (&index)[1], std::uint8_t* labels) const {
            _mm_mask_storeu_epi8(labels, lanes_, _mm512_cvtepi32_epi8(index[0]));
        }

       private:
        __mmask16 lanes_;
    };

   private:
    static Floats widen(__m256i brains) {
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(brains), 16));
    }
};

}  // namespace
}  // namespace fcnkit::avx512
