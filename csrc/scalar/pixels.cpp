// Portable gather and confusion, and the table of all portable kernels.
#include <algorithm>
#include <cstring>

#include "dispatch.hpp"
#include "scalar/scalar.hpp"

namespace fcnkit {
namespace scalar {
namespace {

template <class T>
void look_up(const std::uint8_t* rgb, std::size_t n, const T (&exact)[3][256],
             T* const planes[3]) {
    T* const red = planes[0];
    T* const green = planes[1];
    T* const blue = planes[2];
    for (std::size_t x = 0; x < n; ++x) {
        red[x] = exact[0][rgb[3 * x]];
        green[x] = exact[1][rgb[3 * x + 1]];
        blue[x] = exact[2][rgb[3 * x + 2]];
    }
}

bool targets_legal(const std::uint8_t* target, std::size_t n, unsigned classes, unsigned ignore) {
    unsigned illegal = 0;
    for (std::size_t i = 0; i < n; ++i) {
        illegal |= static_cast<unsigned>(target[i] >= classes) &
                   static_cast<unsigned>(target[i] != ignore);
    }
    return illegal == 0;
}

// Row and column `classes` of a histogram take what is out of range.
struct Histograms {
    std::size_t classes;
    std::size_t side;
    std::uint32_t* counts;

    void add(std::size_t lane, std::size_t target, std::size_t predicted, std::uint32_t times) {
        const std::size_t row = std::min(target, classes);
        counts[(lane * side + row) * side + std::min(predicted, classes)] += times;
    }
    std::int64_t total(std::size_t row, std::size_t column) const {
        std::int64_t sum = 0;
        for (std::size_t lane = 0; lane < kHistograms; ++lane) {
            sum += counts[(lane * side + row) * side + column];
        }
        return sum;
    }
};

// Eight pixels at once where all are alike, as most of a segmented picture is.
bool alike(const std::uint8_t* labels) {
    std::uint64_t word;
    std::memcpy(&word, labels, 8);
    return word == labels[0] * 0x0101010101010101ULL;
}

void count(const std::uint8_t* target, const std::uint8_t* predicted, std::size_t n,
           Histograms& histogram) {
    std::size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        if (alike(target + i) && alike(predicted + i)) {
            histogram.add(0, target[i], predicted[i], 8);
            continue;
        }
        for (std::size_t k = 0; k < 8; ++k) {
            histogram.add(k % kHistograms, target[i + k], predicted[i + k], 1);
        }
    }
    for (; i < n; ++i) {
        histogram.add(0, target[i], predicted[i], 1);
    }
}

bool add_totals(const Histograms& histogram, std::size_t ignore, std::int64_t* counts) {
    const std::size_t classes = histogram.classes;
    for (std::size_t t = 0; t < classes; ++t) {
        if (t == ignore) {
            continue;
        }
        if (histogram.total(t, classes) != 0) {
            return false;
        }
        for (std::size_t p = 0; p < classes; ++p) {
            counts[t * classes + p] += histogram.total(t, p);
        }
    }
    return true;
}

}  // namespace

void gather_float(const std::uint8_t* rgb, std::size_t n, const Normalize& normalize,
                  float* const planes[3]) {
    look_up(rgb, n, normalize.exact, planes);
}

void gather_half(const std::uint8_t* rgb, std::size_t n, const Normalize& normalize,
                 std::uint16_t* const planes[3]) {
    look_up(rgb, n, normalize.exact_half, planes);
}

bool confusion(const std::uint8_t* target, const std::uint8_t* predicted, std::size_t n,
               unsigned classes, unsigned ignore, std::uint32_t* scratch, std::int64_t* counts) {
    constexpr std::size_t kPiece = std::size_t{1} << 30;  // so that 32 bits count enough
    for (std::size_t begin = 0; begin < n; begin += kPiece) {
        const std::size_t size = std::min(kPiece, n - begin);
        if (!targets_legal(target + begin, size, classes, ignore)) {
            return false;
        }
        std::fill(scratch, scratch + confusion_scratch(classes), 0U);
        Histograms histogram{classes, std::size_t{classes} + 1, scratch};
        count(target + begin, predicted + begin, size, histogram);
        if (!add_totals(histogram, ignore, counts)) {
            return false;
        }
    }
    return true;
}

}  // namespace scalar

const Table& scalar_table() {
    static const Table table = {
        "scalar",
        scalar::decode,
        scalar::encode,
        scalar::overlay,
        scalar::gather_float,
        scalar::gather_half,
        scalar::argmax<float>,
        scalar::argmax<Half>,
        scalar::argmax<Brain>,
        scalar::accumulate<float>,
        scalar::accumulate<Half>,
        scalar::accumulate<Brain>,
        scalar::confusion,
    };
    return table;
}

}  // namespace fcnkit
