// AVX2 argmax over sums of logits, and the sums.
#include "target.hpp"

#if FCNKIT_X86
#include <immintrin.h>

#include "ahead.hpp"
#include "avx2/avx2.hpp"
#include "scalar/scalar.hpp"

FCNKIT_TARGET_BEGIN(FCNKIT_AVX2)
namespace fcnkit::avx2 {
namespace {

constexpr std::size_t kLanes = 8;
constexpr std::size_t kBlock = 4 * kLanes;  // pixels whose maxima stay in registers

__m256 load(const float* from) { return _mm256_loadu_ps(from); }

__m256 load(const Half* from) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

__m256 load(const Brain* from) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

// The logits of one class for a block, summed over the views.
template <bool kSingle, class T>
void load_class(const Views<T>& views, std::size_t offset, __m256 (&values)[4]) {
    FCNKIT_UNROLL
    for (std::size_t v = 0; v < 4; ++v) {
        values[v] = load(views.tiles[0] + offset + v * kLanes);
    }
    for (std::size_t t = 1; !kSingle && t < views.count; ++t) {
        FCNKIT_UNROLL
        for (std::size_t v = 0; v < 4; ++v) {
            values[v] = _mm256_add_ps(values[v], load(views.tiles[t] + offset + v * kLanes));
        }
    }
}

__m256 any_nan(const __m256 (&values)[4]) {  // unordered if either is NaN
    return _mm256_or_ps(_mm256_cmp_ps(values[0], values[1], _CMP_UNORD_Q),
                        _mm256_cmp_ps(values[2], values[3], _CMP_UNORD_Q));
}

void store_labels(const __m256i (&index)[4], std::uint8_t* labels) {
    // Packing works within the halves of registers, so groups of four end up out of order.
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i bytes = _mm256_packus_epi16(_mm256_packs_epi32(index[0], index[1]),
                                              _mm256_packs_epi32(index[2], index[3]));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(labels),
                        _mm256_permutevar8x32_epi32(bytes, order));
}

// Labels of a block from x on. False if there is a NaN, which the comparisons do not honour.
template <bool kSingle, class T>
bool argmax_block(const Views<T>& views, std::size_t x, Ahead<T, kBlock>& ahead,
                  std::uint8_t* labels) {
    __m256 best[4], values[4];
    __m256i index[4];
    ahead.begin_block(x);
    ahead.fetch();
    load_class<kSingle>(views, x, best);
    __m256 nan = any_nan(best);
    FCNKIT_UNROLL
    for (std::size_t v = 0; v < 4; ++v) {
        index[v] = _mm256_setzero_si256();
    }
    for (std::size_t c = 1; c < views.classes; ++c) {
        ahead.fetch();
        load_class<kSingle>(views, c * views.class_stride + x, values);
        nan = _mm256_or_ps(nan, any_nan(values));
        const __m256i label = _mm256_set1_epi32(static_cast<int>(c));
        FCNKIT_UNROLL
        for (std::size_t v = 0; v < 4; ++v) {
            const __m256 larger = _mm256_cmp_ps(values[v], best[v], _CMP_GT_OQ);
            best[v] = _mm256_max_ps(values[v], best[v]);
            index[v] = _mm256_blendv_epi8(index[v], label, _mm256_castps_si256(larger));
        }
    }
    store_labels(index, labels + x);
    return _mm256_movemask_ps(nan) == 0;
}

template <bool kSingle, class T>
void argmax_row(const Views<T>& views, std::size_t n, std::uint8_t* labels) {
    if (n < kBlock) {
        scalar::argmax_range(views, 0, n, labels);
        return;
    }
    Ahead<T, kBlock> ahead(views, n);
    const auto block = [&](std::size_t x) {
        if (!argmax_block<kSingle>(views, x, ahead, labels)) {
            scalar::argmax_range(views, x, x + kBlock, labels);
        }
    };
    std::size_t x = 0;
    for (; x + kBlock <= n; x += kBlock) {
        block(x);
    }
    if (x < n) {
        block(n - kBlock);  // some pixels twice is quicker than a few by themselves
    }
}

}  // namespace

template <class T>
void argmax(const Views<T>& views, std::size_t n, std::uint8_t* labels) {
    if (views.count == 1) {
        argmax_row<true>(views, n, labels);
    } else {
        argmax_row<false>(views, n, labels);
    }
}

template <class T>
void accumulate(const T* row, std::size_t n, bool first, float* sums) {
    std::size_t x = 0;
    for (; x + kLanes <= n; x += kLanes) {
        const __m256 values = load(row + x);
        _mm256_storeu_ps(sums + x, first ? values : _mm256_add_ps(load(sums + x), values));
    }
    scalar::accumulate(row + x, n - x, first, sums + x);
}

template void argmax(const Views<float>&, std::size_t, std::uint8_t*);
template void argmax(const Views<Half>&, std::size_t, std::uint8_t*);
template void argmax(const Views<Brain>&, std::size_t, std::uint8_t*);
template void accumulate(const float*, std::size_t, bool, float*);
template void accumulate(const Half*, std::size_t, bool, float*);
template void accumulate(const Brain*, std::size_t, bool, float*);

}  // namespace fcnkit::avx2
FCNKIT_TARGET_END
#endif
