// NEON argmax over sums of logits, and the sums.
#include "target.hpp"

#if FCNKIT_NEON
#include <arm_neon.h>

#include "ahead.hpp"
#include "neon/neon.hpp"
#include "scalar/scalar.hpp"

namespace fcnkit::neon {
namespace {

constexpr std::size_t kLanes = 4;
constexpr std::size_t kBlock = 4 * kLanes;  // pixels whose maxima stay in registers

float32x4_t load(const float* from) { return vld1q_f32(from); }

float32x4_t load(const Half* from) {
    const uint16x4_t bits = vld1_u16(reinterpret_cast<const std::uint16_t*>(from));
    return vcvt_f32_f16(vreinterpret_f16_u16(bits));
}

float32x4_t load(const Brain* from) {
    const uint16x4_t bits = vld1_u16(reinterpret_cast<const std::uint16_t*>(from));
    return vreinterpretq_f32_u32(vshll_n_u16(bits, 16));
}

// The logits of one class for four pixels, summed over the views.
template <class T>
float32x4_t load_class(const Views<T>& views, std::size_t offset) {
    float32x4_t values = load(views.tiles[0] + offset);
    for (std::size_t t = 1; t < views.count; ++t) {
        values = vaddq_f32(values, load(views.tiles[t] + offset));
    }
    return values;
}

void store_labels(const uint32x4_t (&index)[4], std::uint8_t* labels) {
    const uint16x8_t low = vcombine_u16(vmovn_u32(index[0]), vmovn_u32(index[1]));
    const uint16x8_t high = vcombine_u16(vmovn_u32(index[2]), vmovn_u32(index[3]));
    vst1q_u8(labels, vcombine_u8(vmovn_u16(low), vmovn_u16(high)));
}

// Labels of a block from x on. False if there is a NaN, which the comparisons do not honour.
template <class T>
bool argmax_block(const Views<T>& views, std::size_t x, Ahead<T, kBlock>& ahead,
                  std::uint8_t* labels) {
    float32x4_t best[4];
    uint32x4_t index[4];
    uint32x4_t numbers = vdupq_n_u32(0xFFFFFFFFU);
    ahead.begin_block(x);
    ahead.fetch();
    FCNKIT_UNROLL
    for (std::size_t v = 0; v < 4; ++v) {
        best[v] = load_class(views, x + v * kLanes);
        index[v] = vdupq_n_u32(0);
        numbers = vandq_u32(numbers, vceqq_f32(best[v], best[v]));
    }
    for (std::size_t c = 1; c < views.classes; ++c) {
        ahead.fetch();
        const uint32x4_t label = vdupq_n_u32(static_cast<std::uint32_t>(c));
        FCNKIT_UNROLL
        for (std::size_t v = 0; v < 4; ++v) {
            const std::size_t offset = c * views.class_stride + x + v * kLanes;
            const float32x4_t values = load_class(views, offset);
            const uint32x4_t larger = vcgtq_f32(values, best[v]);
            numbers = vandq_u32(numbers, vceqq_f32(values, values));
            best[v] = vbslq_f32(larger, values, best[v]);
            index[v] = vbslq_u32(larger, label, index[v]);
        }
    }
    store_labels(index, labels + x);
    return vminvq_u32(numbers) != 0;
}

}  // namespace

template <class T>
void argmax(const Views<T>& views, std::size_t n, std::uint8_t* labels) {
    if (n < kBlock) {
        scalar::argmax_range(views, 0, n, labels);
        return;
    }
    Ahead<T, kBlock> ahead(views, n);
    const auto block = [&](std::size_t x) {
        if (!argmax_block(views, x, ahead, labels)) {
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

template <class T>
void accumulate(const T* row, std::size_t n, bool first, float* sums) {
    std::size_t x = 0;
    for (; x + kLanes <= n; x += kLanes) {
        const float32x4_t values = load(row + x);
        vst1q_f32(sums + x, first ? values : vaddq_f32(load(sums + x), values));
    }
    scalar::accumulate(row + x, n - x, first, sums + x);
}

template void argmax(const Views<float>&, std::size_t, std::uint8_t*);
template void argmax(const Views<Half>&, std::size_t, std::uint8_t*);
template void argmax(const Views<Brain>&, std::size_t, std::uint8_t*);
template void accumulate(const float*, std::size_t, bool, float*);
template void accumulate(const Half*, std::size_t, bool, float*);
template void accumulate(const Brain*, std::size_t, bool, float*);

}  // namespace fcnkit::neon
#endif
