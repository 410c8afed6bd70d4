// Portable argmax over sums of logits, and the sums themselves.
#include <algorithm>

#include "half.hpp"
#include "kernel_set.hpp"

namespace fcnkit {
namespace {

constexpr std::size_t kBlock = 256;  // pixels whose best logit and label stay in the first cache

template <class T>
void sum(const Views<T>& views, std::size_t c, std::size_t x, std::size_t n, float* sums) {
    const std::size_t offset = c * views.class_stride + x;
    Scalar::accumulate(views.tiles[0] + offset, n, true, sums);
    for (std::size_t t = 1; t < views.count; ++t) {
        Scalar::accumulate(views.tiles[t] + offset, n, false, sums);
    }
}

// The comparison that says it all: larger, or the first NaN.
bool beats(float value, float best) {
    return value > best || (value != value && best == best);
}

void argmax_block(std::size_t n, std::int32_t c, const float* values, float* best,
                  std::int32_t* labels) {
    for (std::size_t x = 0; x < n; ++x) {
        const bool better = beats(values[x], best[x]);
        best[x] = better ? values[x] : best[x];
        labels[x] = better ? c : labels[x];
    }
}

}  // namespace

template <class T>
void Scalar::accumulate(const T* row, std::size_t n, bool first, float* sums) {
    if (first) {
        for (std::size_t x = 0; x < n; ++x) {
            sums[x] = to_float(row[x]);
        }
    } else {
        for (std::size_t x = 0; x < n; ++x) {
            sums[x] += to_float(row[x]);
        }
    }
}

template <class T>
void Scalar::argmax_range(const Views<T>& views, std::size_t begin, std::size_t end,
                          std::uint8_t* labels) {
    float values[kBlock];
    float best[kBlock];
    std::int32_t index[kBlock];
    for (std::size_t x = begin; x < end; x += kBlock) {
        const std::size_t size = std::min(kBlock, end - x);
        sum(views, 0, x, size, best);
        std::fill(index, index + size, 0);
        for (std::size_t c = 1; c < views.classes; ++c) {
            sum(views, c, x, size, values);
            argmax_block(size, static_cast<std::int32_t>(c), values, best, index);
        }
        for (std::size_t i = 0; i < size; ++i) {
            labels[x + i] = static_cast<std::uint8_t>(index[i]);
        }
    }
}

template <class T>
void Scalar::argmax(const Views<T>& views, std::size_t n, std::uint8_t* labels) {
    argmax_range(views, 0, n, labels);
}

template void Scalar::argmax_range(const Views<float>&, std::size_t, std::size_t, std::uint8_t*);
template void Scalar::argmax_range(const Views<Half>&, std::size_t, std::size_t, std::uint8_t*);
template void Scalar::argmax_range(const Views<Brain>&, std::size_t, std::size_t, std::uint8_t*);
template void Scalar::argmax(const Views<float>&, std::size_t, std::uint8_t*);
template void Scalar::argmax(const Views<Half>&, std::size_t, std::uint8_t*);
template void Scalar::argmax(const Views<Brain>&, std::size_t, std::uint8_t*);
template void Scalar::accumulate(const float*, std::size_t, bool, float*);
template void Scalar::accumulate(const Half*, std::size_t, bool, float*);
template void Scalar::accumulate(const Brain*, std::size_t, bool, float*);

}  // namespace fcnkit
