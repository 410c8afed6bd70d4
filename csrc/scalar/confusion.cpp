// The confusion matrix. Portable only: the work is in the increments, of which no instruction set
// does several at once; the compiler vectorizes the rest.
#include <algorithm>

#include "kernel_set.hpp"

namespace fcnkit {
namespace {

// Several histograms ("lanes") that neighboring pixels take turns in, so that equal neighbors
// need not wait for each other's store. The cell of a pair is target << shift | prediction; what
// is out of range counts as label `classes`.
struct Layout {
    unsigned last;  // the largest label that is told apart
    unsigned shift;
    std::size_t lanes;
    std::size_t cells;  // per lane

    explicit Layout(unsigned classes)
        : last(std::min(classes, 255U)),
          shift(classes < 32 ? 5 : 8),
          lanes(classes < 32 ? 8 : 2),
          cells(std::size_t{last + 1} << shift) {}
};

constexpr std::size_t kRun = 64;
constexpr std::size_t kBlock = 16 * kRun;  // long enough for the stores to be done when read again

template <unsigned kShift>
void cells_of(const std::uint8_t* target, const std::uint8_t* predicted, std::uint8_t last,
              std::uint16_t* cells) {
    for (std::size_t k = 0; k < kBlock; ++k) {
        const std::uint16_t row = std::min(target[k], last), column = std::min(predicted[k], last);
        cells[k] = static_cast<std::uint16_t>(row << kShift | column);
    }
}

// Whether kRun pixels are all in one cell, as in most of a mask.
bool alike(const std::uint16_t* cells) {
    std::uint16_t difference = 0;
    for (std::size_t k = 0; k < kRun; ++k) {
        difference = static_cast<std::uint16_t>(difference | (cells[k] ^ cells[0]));
    }
    return difference == 0;
}

template <std::size_t kLanes, unsigned kShift>
void count(const std::uint8_t* target, const std::uint8_t* predicted, std::size_t n,
           const Layout& layout, std::uint32_t* counts) {
    const std::size_t stride = layout.cells;
    const auto last = static_cast<std::uint8_t>(layout.last);
    std::uint16_t cells[kBlock];
    std::size_t i = 0;
    for (; i + kBlock <= n; i += kBlock) {
        cells_of<kShift>(target + i, predicted + i, last, cells);
        for (const std::uint16_t* run = cells; run < cells + kBlock; run += kRun) {
            if (alike(run)) {
                counts[run[0]] += kRun;
                continue;
            }
            for (std::size_t k = 0; k < kRun; k += kLanes) {
                for (std::size_t lane = 0; lane < kLanes; ++lane) {
                    ++counts[lane * stride + run[k + lane]];
                }
            }
        }
    }
    for (; i < n; ++i) {
        const std::size_t row = std::min(target[i], last), column = std::min(predicted[i], last);
        ++counts[row << kShift | column];
    }
}

// Whether every target is below classes or to be ignored. Bytes, so that the loop vectorizes.
bool targets_legal(const std::uint8_t* target, std::size_t n, unsigned classes, unsigned ignore) {
    if (classes > 255) {
        return true;
    }
    const auto limit = static_cast<std::uint8_t>(classes);
    const auto ignored = static_cast<std::uint8_t>(ignore);
    std::uint8_t illegal = 0;
    for (std::size_t i = 0; i < n; ++i) {
        const auto large = static_cast<std::uint8_t>(target[i] >= limit);
        const auto counts = static_cast<std::uint8_t>(target[i] != ignored);
        illegal = static_cast<std::uint8_t>(illegal | (large & counts));
    }
    return illegal == 0;
}

bool add_totals(const Layout& layout, const std::uint32_t* counts, unsigned classes,
                unsigned ignore, std::int64_t* totals) {
    const auto total = [&](std::size_t row, std::size_t column) {
        std::int64_t sum = 0;
        for (std::size_t lane = 0; lane < layout.lanes; ++lane) {
            sum += counts[lane * layout.cells + (row << layout.shift | column)];
        }
        return sum;
    };
    for (std::size_t t = 0; t < classes; ++t) {
        if (t == ignore) {
            continue;
        }
        if (classes <= 255 && total(t, classes) != 0) {
            return false;
        }
        for (std::size_t p = 0; p < classes; ++p) {
            totals[t * classes + p] += total(t, p);
        }
    }
    return true;
}

}  // namespace

std::size_t confusion_scratch(unsigned classes) {
    const Layout layout(classes);
    return layout.lanes * layout.cells;
}

bool Scalar::confusion(const std::uint8_t* target, const std::uint8_t* predicted, std::size_t n,
                       unsigned classes, unsigned ignore, std::uint32_t* scratch,
                       std::int64_t* counts) {
    constexpr std::size_t kPiece = std::size_t{1} << 30;  // so that 32 bits count enough
    const Layout layout(classes);
    for (std::size_t begin = 0; begin < n; begin += kPiece) {
        const std::size_t size = std::min(kPiece, n - begin);
        if (!targets_legal(target + begin, size, classes, ignore)) {
            return false;
        }
        std::fill(scratch, scratch + layout.lanes * layout.cells, 0U);
        const auto run = layout.lanes == 8 ? count<8, 5> : count<2, 8>;
        run(target + begin, predicted + begin, size, layout, scratch);
        if (!add_totals(layout, scratch, classes, ignore, counts)) {
            return false;
        }
    }
    return true;
}

}  // namespace fcnkit
