// AVX-512 argmax over sums of logits, and the sums.
#include "target.hpp"

#if FCNKIT_X86
#include <immintrin.h>

#include "ahead.hpp"
#include "avx512/avx512.hpp"
#include "scalar/scalar.hpp"

FCNKIT_TARGET_BEGIN(FCNKIT_AVX512)
namespace fcnkit::avx512 {
namespace {

constexpr std::size_t kLanes = 16;
constexpr __mmask16 kAll = 0xFFFF;

__m512 load(const float* from, __mmask16 lanes) { return _mm512_maskz_loadu_ps(lanes, from); }

__m512 load(const Half* from, __mmask16 lanes) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes, from));
}

__m512 load(const Brain* from, __mmask16 lanes) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

// The logits of one class for kCount * 16 pixels, summed over the views.
template <std::size_t kCount, bool kSingle, class T>
void load_class(const Views<T>& views, std::size_t offset, __mmask16 lanes,
                __m512 (&values)[kCount]) {
    FCNKIT_UNROLL
    for (std::size_t v = 0; v < kCount; ++v) {
        values[v] = load(views.tiles[0] + offset + v * kLanes, lanes);
    }
    for (std::size_t t = 1; !kSingle && t < views.count; ++t) {
        FCNKIT_UNROLL
        for (std::size_t v = 0; v < kCount; ++v) {
            const __m512 more = load(views.tiles[t] + offset + v * kLanes, lanes);
            values[v] = _mm512_add_ps(values[v], more);
        }
    }
}

template <std::size_t kCount>
__mmask16 any_nan(const __m512 (&values)[kCount]) {
    __mmask16 found = 0;
    FCNKIT_UNROLL
    for (std::size_t v = 0; v < kCount; v += 2) {  // unordered if either is NaN
        found |= _mm512_cmp_ps_mask(values[v], values[(v + 1) % kCount], _CMP_UNORD_Q);
    }
    return found;
}

constexpr std::size_t kVectors = 8;
constexpr std::size_t kBlock = kVectors * kLanes;  // pixels whose maxima stay in registers

// Labels of kCount * 16 pixels from x on, of which only `lanes` of each vector exist. False if
// there is a NaN, which the comparisons here do not honour.
template <std::size_t kCount, bool kSingle, class T>
bool argmax_block(const Views<T>& views, std::size_t x, __mmask16 lanes, Ahead<T, kBlock>* ahead,
                  std::uint8_t* labels) {
    __m512 best[kCount], values[kCount];
    __m512i index[kCount];
    if (ahead != nullptr) {
        ahead->begin_block(x);
        ahead->fetch();
    }
    load_class<kCount, kSingle>(views, x, lanes, best);
    __mmask16 nan = any_nan(best);
    FCNKIT_UNROLL
    for (std::size_t v = 0; v < kCount; ++v) {
        index[v] = _mm512_setzero_si512();
    }
    for (std::size_t c = 1; c < views.classes; ++c) {
        if (ahead != nullptr) {
            ahead->fetch();
        }
        load_class<kCount, kSingle>(views, c * views.class_stride + x, lanes, values);
        nan |= any_nan(values);
        FCNKIT_UNROLL
        for (std::size_t v = 0; v < kCount; ++v) {
            const __mmask16 larger = _mm512_cmp_ps_mask(values[v], best[v], _CMP_GT_OQ);
            best[v] = _mm512_max_ps(values[v], best[v]);
            index[v] = _mm512_mask_set1_epi32(index[v], larger, static_cast<int>(c));
        }
    }
    FCNKIT_UNROLL
    for (std::size_t v = 0; v < kCount; ++v) {
        _mm_mask_storeu_epi8(labels + x + v * kLanes, lanes, _mm512_cvtepi32_epi8(index[v]));
    }
    return nan == 0;
}

template <bool kSingle, class T>
void argmax_row(const Views<T>& views, std::size_t n, std::uint8_t* labels) {
    Ahead<T, kBlock> ahead(views, n);
    const auto block = [&](std::size_t x) {
        if (!argmax_block<kVectors, kSingle>(views, x, kAll, &ahead, labels)) {
            scalar::argmax_range(views, x, x + kBlock, labels);
        }
    };
    std::size_t x = 0;
    for (; x + kBlock <= n; x += kBlock) {
        block(x);
    }
    if (x < n && n >= kBlock) {  // some pixels twice is quicker than many few at a time
        block(n - kBlock);
        return;
    }
    for (; x < n; x += kLanes) {
        const std::size_t size = n - x < kLanes ? n - x : kLanes;
        const __mmask16 lanes = static_cast<__mmask16>((1U << size) - 1);
        if (!argmax_block<1, kSingle, T>(views, x, lanes, nullptr, labels)) {
            scalar::argmax_range(views, x, x + size, labels);
        }
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
        const __m512 values = load(row + x, kAll);
        _mm512_storeu_ps(sums + x,
                         first ? values : _mm512_add_ps(_mm512_loadu_ps(sums + x), values));
    }
    scalar::accumulate(row + x, n - x, first, sums + x);
}

template void argmax(const Views<float>&, std::size_t, std::uint8_t*);
template void argmax(const Views<Half>&, std::size_t, std::uint8_t*);
template void argmax(const Views<Brain>&, std::size_t, std::uint8_t*);
template void accumulate(const float*, std::size_t, bool, float*);
template void accumulate(const Half*, std::size_t, bool, float*);
template void accumulate(const Brain*, std::size_t, bool, float*);

}  // namespace fcnkit::avx512
FCNKIT_TARGET_END
#endif
