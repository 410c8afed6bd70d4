// What argmax and the sums of logits need of AVX2.
#pragma once

namespace fcnkit::avx2 {
namespace {

struct LogitVectors {
    static constexpr std::size_t kLanes = 8;
    static constexpr std::size_t kVectors = 4;
    using Partial = void;
    using Floats = __m256;
    using Index = __m256i;
    using Flags = __m256;

    static Floats load(const float* from) { return _mm256_loadu_ps(from); }

    static Floats load(const Half* from) {
        return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    }

    static Floats load(const Brain* from) {
        const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
    }

    static void store(float* to, Floats values) { _mm256_storeu_ps(to, values); }
    static Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
    static Index zero() { return _mm256_setzero_si256(); }

    static Flags any_nan(const Floats (&values)[kVectors]) {  // unordered if either is NaN
        return _mm256_or_ps(_mm256_cmp_ps(values[0], values[1], _CMP_UNORD_Q),
                            _mm256_cmp_ps(values[2], values[3], _CMP_UNORD_Q));
    }

    static Flags either(Flags a, Flags b) { return _mm256_or_ps(a, b); }
    static bool none(Flags flags) { return _mm256_movemask_ps(flags) == 0; }

    // The logits of class c join the best so far.
    static void keep_larger(Floats values, std::size_t c, Floats& best, Index& index) {
        const __m256 larger = _mm256_cmp_ps(values, best, _CMP_GT_OQ);
        const __m256i label = _mm256_set1_epi32(static_cast<int>(c));
        best = _mm256_max_ps(values, best);
        index = _mm256_blendv_epi8(index, label, _mm256_castps_si256(larger));
    }

    static void store_labels(const Index (&index)[kVectors], std::uint8_t* labels) {
        // Packing works within the halves of registers, so groups of four end up out of order.
        const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        const __m256i bytes = _mm256_packus_epi16(_mm256_packs_epi32(index[0], index[1]),
                                                  _mm256_packs_epi32(index[2], index[3]));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(labels),
                            _mm256_permutevar8x32_epi32(bytes, order));
    }
};

}  // namespace
}  // namespace fcnkit::avx2
