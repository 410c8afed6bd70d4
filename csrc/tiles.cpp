#include "tiles.hpp"

#include <algorithm>
#include <cstring>

#include "dispatch.hpp"
#include "parallel.hpp"

namespace fcnkit {
namespace {

// Index of the image row (or column) that position `at` shows: itself inside, mirrored outside
// without repeating the edge. With size s the pattern repeats every 2s - 2.
std::size_t reflect(std::size_t at, std::size_t size) {
    if (size == 1) {
        return 0;
    }
    const std::size_t phase = at % (2 * size - 2);
    return phase < size ? phase : 2 * size - 2 - phase;
}

// One row of a tile as contiguous pixels: the image's own memory, or a mirrored copy in scratch.
const std::uint8_t* tile_row(const std::uint8_t* image, const Plan& plan, std::size_t y,
                             std::size_t left, std::uint8_t* scratch) {
    const std::uint8_t* row = image + reflect(y, plan.height) * plan.width * 3;
    if (left + plan.tile_width <= plan.width) {
        return row + 3 * left;
    }
    for (std::size_t x = 0; x < plan.tile_width; ++x) {
        std::memcpy(scratch + 3 * x, row + 3 * reflect(left + x, plan.width), 3);
    }
    return scratch;
}

// Calls body(tile, y, pixels) for every row y of every tile, in parallel.
template <class Body>
void for_each_tile_row(const std::uint8_t* image, const Plan& plan, std::size_t bytes_per_pixel,
                       std::size_t threads, const Body& body) {
    const std::size_t rows = plan.tiles() * plan.tile_height;
    const std::size_t bytes = rows * plan.tile_width * bytes_per_pixel;
    const bool leaves = plan.lefts.back() + plan.tile_width > plan.width;
    std::vector<std::uint8_t> scratch(leaves ? threads * plan.tile_width * 3 : 0);
    const std::size_t share = (rows + threads - 1) / threads;
    parallel_for(rows, share, bytes, threads, [&](std::size_t begin, std::size_t end) {
        std::uint8_t* mine = scratch.data() + (leaves ? begin / share * plan.tile_width * 3 : 0);
        for (std::size_t row = begin; row < end; ++row) {
            const std::size_t tile = row / plan.tile_height, y = row % plan.tile_height;
            const std::size_t top = plan.tops[tile / plan.lefts.size()];
            const std::size_t left = plan.lefts[tile % plan.lefts.size()];
            body(tile, y, tile_row(image, plan, top + y, left, mine));
        }
    });
}

void gather_row(const Table& table, const std::uint8_t* rgb, std::size_t n,
                const Normalize& normalize, float* const planes[3]) {
    table.gather_float(rgb, n, normalize, planes);
}

void gather_row(const Table& table, const std::uint8_t* rgb, std::size_t n,
                const Normalize& normalize, std::uint16_t* const planes[3]) {
    table.gather_half(rgb, n, normalize, planes);
}

// A stretch of one axis that the same tiles cover: those with index in [first, last).
struct Stretch {
    std::size_t begin, end, first, last;
};

std::vector<Stretch> stretches(const std::vector<std::size_t>& starts, std::size_t side,
                               std::size_t extent) {
    std::vector<std::size_t> cuts{0, extent};
    for (const std::size_t start : starts) {
        cuts.push_back(start);
        cuts.push_back(std::min(start + side, extent));
    }
    std::sort(cuts.begin(), cuts.end());
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
    std::vector<Stretch> found;
    for (std::size_t k = 0; k + 1 < cuts.size(); ++k) {
        std::size_t first = 0, last = 0;
        while (starts[first] + side <= cuts[k]) {
            ++first;
        }
        while (last < starts.size() && starts[last] <= cuts[k]) {
            ++last;
        }
        found.push_back({cuts[k], cuts[k + 1], first, last});
    }
    return found;
}

// The rows [begin, end) of the image that also lie in `rows`, one call per stretch of columns.
template <class T>
void stitch_rows(const T* logits, std::size_t classes, const Plan& plan, const Stretch& rows,
                 const std::vector<Stretch>& columns, std::vector<const T*>& views,
                 std::uint8_t* labels) {
    const Argmax<T> argmax = argmax_of<T>(active_table());
    const std::size_t plane = plan.tile_height * plan.tile_width;
    for (std::size_t y = rows.begin; y < rows.end; ++y) {
        for (const Stretch& column : columns) {
            std::size_t count = 0;
            for (std::size_t i = rows.first; i < rows.last; ++i) {
                const std::size_t row = (y - plan.tops[i]) * plan.tile_width;
                for (std::size_t j = column.first; j < column.last; ++j) {
                    const std::size_t tile = i * plan.lefts.size() + j;
                    views[count++] = logits + tile * classes * plane + row + column.begin -
                                     plan.lefts[j];
                }
            }
            argmax(Views<T>{views.data(), count, classes, plane, plan.tile_width},
                   column.end - column.begin, labels + y * plan.width + column.begin);
        }
    }
}

std::size_t most(const std::vector<Stretch>& stretches) {
    std::size_t most = 0;
    for (const Stretch& stretch : stretches) {
        most = std::max(most, stretch.last - stretch.first);
    }
    return most;
}

}  // namespace

void cut_tiles(const std::uint8_t* image, const Plan& plan, std::uint8_t* out,
               std::size_t threads) {
    const std::size_t row_bytes = plan.tile_width * 3;
    for_each_tile_row(image, plan, 6, threads,
                      [&](std::size_t tile, std::size_t y, const std::uint8_t* pixels) {
                          std::memcpy(out + (tile * plan.tile_height + y) * row_bytes, pixels,
                                      row_bytes);
                      });
}

template <class T>
void gather_tiles(const std::uint8_t* image, const Plan& plan, const Normalize& normalize, T* out,
                  std::size_t threads) {
    const Table& table = active_table();
    const std::size_t plane = plan.tile_height * plan.tile_width;
    for_each_tile_row(image, plan, 3 + 3 * sizeof(T), threads,
                      [&](std::size_t tile, std::size_t y, const std::uint8_t* pixels) {
                          T* row = out + tile * 3 * plane + y * plan.tile_width;
                          T* const planes[3] = {row, row + plane, row + 2 * plane};
                          gather_row(table, pixels, plan.tile_width, normalize, planes);
                      });
}

template void gather_tiles(const std::uint8_t*, const Plan&, const Normalize&, float*,
                           std::size_t);
template void gather_tiles(const std::uint8_t*, const Plan&, const Normalize&, std::uint16_t*,
                           std::size_t);

template <class T>
void stitch_tiles(const T* logits, std::size_t classes, const Plan& plan, std::uint8_t* labels,
                  std::size_t threads) {
    const std::vector<Stretch> rows = stretches(plan.tops, plan.tile_height, plan.height);
    const std::vector<Stretch> columns = stretches(plan.lefts, plan.tile_width, plan.width);
    const std::size_t overlap = most(rows) * most(columns);
    const std::size_t share = (plan.height + threads - 1) / threads;
    std::vector<std::vector<const T*>> views(threads, std::vector<const T*>(overlap));
    const std::size_t bytes = plan.height * plan.width * classes * sizeof(T);
    parallel_for(plan.height, share, bytes, threads, [&](std::size_t begin, std::size_t end) {
        for (const Stretch& band : rows) {
            const Stretch mine{std::max(begin, band.begin), std::min(end, band.end), band.first,
                               band.last};
            if (mine.begin < mine.end) {
                stitch_rows(logits, classes, plan, mine, columns, views[begin / share], labels);
            }
        }
    });
}

template void stitch_tiles(const float*, std::size_t, const Plan&, std::uint8_t*, std::size_t);
template void stitch_tiles(const Half*, std::size_t, const Plan&, std::uint8_t*, std::size_t);
template void stitch_tiles(const Brain*, std::size_t, const Plan&, std::uint8_t*, std::size_t);

template <class T>
void accumulate_tile(const T* logits, std::size_t classes, const Plan& plan, std::size_t i,
                     std::size_t j, float* band, std::size_t threads) {
    const Accumulate<T> accumulate = accumulate_of<T>(active_table());
    const std::size_t top = plan.tops[i], left = plan.lefts[j];
    const std::size_t rows = std::min(plan.tile_height, plan.height - top);
    const std::size_t columns = std::min(plan.tile_width, plan.width - left);
    // Rows and columns up to here were reached by an earlier tile: there the tile is added.
    const std::size_t old_rows = i == 0 ? 0 : plan.tops[i - 1] + plan.tile_height - top;
    const std::size_t old_columns =
        j == 0 ? 0 : std::min(columns, plan.lefts[j - 1] + plan.tile_width - left);
    const std::size_t bytes = classes * rows * columns * (sizeof(T) + 8);
    parallel_for(classes, 1, bytes, threads, [&](std::size_t begin, std::size_t end) {
        for (std::size_t c = begin; c < end; ++c) {
            for (std::size_t y = 0; y < rows; ++y) {
                const T* row = logits + (c * plan.tile_height + y) * plan.tile_width;
                const std::size_t slot = (top + y) % plan.tile_height;
                float* sums = band + (c * plan.tile_height + slot) * plan.width + left;
                const std::size_t known = y < old_rows ? columns : old_columns;
                accumulate(row, known, false, sums);
                accumulate(row + known, columns - known, true, sums + known);
            }
        }
    });
}

template void accumulate_tile(const float*, std::size_t, const Plan&, std::size_t, std::size_t,
                              float*, std::size_t);
template void accumulate_tile(const Half*, std::size_t, const Plan&, std::size_t, std::size_t,
                              float*, std::size_t);
template void accumulate_tile(const Brain*, std::size_t, const Plan&, std::size_t, std::size_t,
                              float*, std::size_t);

void finish_rows(const float* band, std::size_t classes, const Plan& plan, std::size_t first,
                 std::size_t rows, std::uint8_t* labels, std::size_t threads) {
    const Table& table = active_table();
    const std::size_t bytes = rows * plan.width * classes * sizeof(float);
    parallel_for(rows, 1, bytes, threads, [&](std::size_t begin, std::size_t end) {
        for (std::size_t y = begin; y < end; ++y) {
            const float* row = band + (first + y) % plan.tile_height * plan.width;
            const std::size_t plane = plan.tile_height * plan.width;
            table.argmax_float(Views<float>{&row, 1, classes, plane, plan.width}, plan.width,
                               labels + y * plan.width);
        }
    });
}

}  // namespace fcnkit
