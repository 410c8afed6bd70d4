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

// The results of n pixels, whose sums hold the logits of `tiles` tiles.
template <class T>
void finish_pixels(const Table& table, const Views<T>& views, std::size_t n, std::size_t tiles,
                   const Results& out) {
    if (out.confidence == nullptr) {
        table.argmax.of<T>()(views, n, out.labels);
    } else {
        table.confidence.of<T>()(views, n, 1.0F / static_cast<float>(tiles), out);
    }
}

// The rows [begin, end) of the image that also lie in `rows`, one call per stretch of columns.
template <class T>
void stitch_rows(const T* logits, std::size_t classes, const Plan& plan, const Stretch& rows,
                 const std::vector<Stretch>& columns, std::vector<const T*>& views,
                 const Results& out) {
    const Table& table = active_table();
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
            const Views<T> all{views.data(), count, classes, plane, plan.tile_width};
            finish_pixels(table, all, column.end - column.begin, count,
                          out + (y * plan.width + column.begin));
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

bool covers(std::size_t extent, std::size_t side, const std::vector<std::size_t>& starts) {
    if (side == 0 || starts.empty() || starts.front() != 0 || starts.back() >= extent) {
        return false;
    }
    for (std::size_t k = 1; k < starts.size(); ++k) {
        if (starts[k] <= starts[k - 1] || starts[k] - starts[k - 1] > side) {
            return false;
        }
    }
    return extent - starts.back() <= side;
}

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
    Gather<T>& gather_row = active_table().gather.of<T>();
    const std::size_t plane = plan.tile_height * plan.tile_width;
    for_each_tile_row(image, plan, 3 + 3 * sizeof(T), threads,
                      [&](std::size_t tile, std::size_t y, const std::uint8_t* pixels) {
                          T* row = out + tile * 3 * plane + y * plan.tile_width;
                          T* const planes[3] = {row, row + plane, row + 2 * plane};
                          gather_row(pixels, plan.tile_width, normalize, planes);
                      });
}

template void gather_tiles(const std::uint8_t*, const Plan&, const Normalize&, float*,
                           std::size_t);
template void gather_tiles(const std::uint8_t*, const Plan&, const Normalize&, std::uint16_t*,
                           std::size_t);

template <class T>
void stitch_tiles(const T* logits, std::size_t classes, const Plan& plan, const Results& out,
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
                stitch_rows(logits, classes, plan, mine, columns, views[begin / share], out);
            }
        }
    });
}

template void stitch_tiles(const float*, std::size_t, const Plan&, const Results&, std::size_t);
template void stitch_tiles(const Half*, std::size_t, const Plan&, const Results&, std::size_t);
template void stitch_tiles(const Brain*, std::size_t, const Plan&, const Results&, std::size_t);

namespace {

// Where tile number `at` of an axis ends, and where it has to share: [begin, known) was reached by
// the tile before it, [begin, done) is reached by no later one.
struct Reach {
    std::size_t begin, end, known, done;
};

Reach reach(const std::vector<std::size_t>& starts, std::size_t at, std::size_t side,
            std::size_t extent) {
    const std::size_t begin = starts[at];
    const std::size_t known = at == 0 ? begin : std::min(starts[at - 1] + side, extent);
    const std::size_t done = at + 1 < starts.size() ? starts[at + 1] : extent;
    return {begin, std::min(begin + side, extent), known, done};
}

template <class T>
struct Adding {
    const T* logits;
    std::size_t classes;
    const Plan& plan;
    Held held;
    Reach rows, columns;
    std::vector<Stretch> stretches;  // of the columns that this tile finishes

    // How many tiles reach row y of the tile, in one column of tiles.
    std::size_t tiles_over(std::size_t y) const {
        std::size_t count = 0;
        for (const std::size_t top : plan.tops) {
            count += top <= rows.begin + y && rows.begin + y < top + plan.tile_height;
        }
        return count;
    }

    const T* row(std::size_t c, std::size_t y) const {
        return logits + (c * plan.tile_height + y) * plan.tile_width;
    }
    float* below(std::size_t c, std::size_t slot) const {
        return held.below + (c * held.shape.rows + slot) * plan.width + columns.begin;
    }
    float* right(std::size_t c, std::size_t y) const {
        return held.right + (y * classes + c) * held.shape.columns;
    }
};

// A row that no later row of tiles reaches: labels for what no later tile reaches, the sums of the
// rest go to the right. scratch: (classes, columns of the tile); out: where the row goes.
template <class T>
void finish_row(const Adding<T>& tile, std::size_t y, float* scratch, const Results& out) {
    const Table& table = active_table();
    Accumulate<T>& accumulate = table.accumulate.of<T>();
    const Reach& columns = tile.columns;
    const std::size_t width = columns.end - columns.begin, known = columns.known - columns.begin;
    const std::size_t done = columns.done - columns.begin;
    const bool above = tile.rows.begin + y < tile.rows.known;
    for (std::size_t c = 0; c < tile.classes; ++c) {
        float* sums = scratch + c * width;
        const T* row = tile.row(c, y);
        if (known > 0) {
            std::memcpy(sums, tile.right(c, y), known * sizeof(float));
            accumulate(row, known, false, sums);
        }
        if (above) {
            std::memcpy(sums + known, tile.below(c, y) + known, (width - known) * sizeof(float));
        }
        accumulate(row + known, width - known, !above, sums + known);
        if (done < width) {
            std::memcpy(tile.right(c, y), sums + done, (width - done) * sizeof(float));
        }
    }
    const std::size_t over = tile.tiles_over(y);
    for (const Stretch& stretch : tile.stretches) {
        const std::size_t begin = stretch.begin - columns.begin;
        const float* view = scratch + begin;
        finish_pixels(table, Views<float>{&view, 1, tile.classes, width, 0},
                      stretch.end - stretch.begin, over * (stretch.last - stretch.first),
                      out + begin);
    }
}

// What a tile finishes of each row, apart where another number of tiles is in the sums. The argmax
// does not depend on that number.
std::vector<Stretch> finished_stretches(const Plan& plan, const Reach& columns,
                                        const Results& out) {
    if (out.confidence == nullptr) {
        return {{columns.begin, columns.done, 0, 1}};
    }
    std::vector<Stretch> found;
    for (const Stretch& stretch : stretches(plan.lefts, plan.tile_width, plan.width)) {
        if (stretch.begin >= columns.begin && stretch.end <= columns.done) {
            found.push_back(stretch);
        }
    }
    return found;
}

// The rows that the next row of tiles reaches too, of one class: what is left of them after this
// row of tiles moves up, to where the next one looks for it. Going down, every slot is read before
// it is written; its columns that an earlier tile of this row reached have moved up already.
template <class T>
void hold_rows(const Adding<T>& tile, std::size_t c) {
    Accumulate<T>& accumulate = active_table().accumulate.of<T>();
    const Reach &rows = tile.rows, &columns = tile.columns;
    const std::size_t width = columns.end - columns.begin, known = columns.known - columns.begin;
    for (std::size_t y = rows.done - rows.begin; y < rows.end - rows.begin; ++y) {
        float* sums = tile.below(c, rows.begin + y - rows.done);
        const T* row = tile.row(c, y);
        const bool above = rows.begin + y < rows.known;
        if (above) {
            std::memcpy(sums + known, tile.below(c, y) + known, (width - known) * sizeof(float));
        }
        accumulate(row, known, false, sums);
        accumulate(row + known, width - known, !above, sums + known);
    }
}

}  // namespace

HeldShape held_shape(const Plan& plan) {
    HeldShape shape{0, 0, 0};
    for (std::size_t i = 0; i < plan.tops.size(); ++i) {
        const Reach rows = reach(plan.tops, i, plan.tile_height, plan.height);
        shape.rows = std::max(shape.rows, rows.known - rows.begin);
        shape.steps = std::max(shape.steps, rows.done - rows.begin);
    }
    for (std::size_t j = 0; j < plan.lefts.size(); ++j) {
        const Reach columns = reach(plan.lefts, j, plan.tile_width, plan.width);
        shape.columns = std::max(shape.columns, columns.known - columns.begin);
    }
    return shape;
}

template <class T>
void add_tile(const T* logits, std::size_t classes, const Plan& plan, std::size_t i,
              std::size_t j, const Held& held, const Results& out, std::size_t threads) {
    const Reach columns = reach(plan.lefts, j, plan.tile_width, plan.width);
    const Adding<T> tile{logits, classes, plan, held,
                         reach(plan.tops, i, plan.tile_height, plan.height), columns,
                         finished_stretches(plan, columns, out)};
    const std::size_t width = tile.columns.end - tile.columns.begin;
    const std::size_t done = tile.rows.done - tile.rows.begin;
    const std::size_t share = (done + threads - 1) / threads;
    const std::size_t bytes = classes * width * (sizeof(T) + sizeof(float));
    std::vector<float> scratch(threads * classes * width);
    parallel_for(done, share, bytes * done, threads, [&](std::size_t begin, std::size_t end) {
        float* mine = scratch.data() + begin / share * classes * width;
        for (std::size_t y = begin; y < end; ++y) {
            finish_row(tile, y, mine, out + (y * plan.width + columns.begin));
        }
    });
    const std::size_t rest = tile.rows.end - tile.rows.done;
    parallel_for(classes, 1, bytes * rest, threads, [&](std::size_t begin, std::size_t end) {
        for (std::size_t c = begin; c < end; ++c) {
            hold_rows(tile, c);
        }
    });
}

template void add_tile(const float*, std::size_t, const Plan&, std::size_t, std::size_t,
                       const Held&, const Results&, std::size_t);
template void add_tile(const Half*, std::size_t, const Plan&, std::size_t, std::size_t,
                       const Held&, const Results&, std::size_t);
template void add_tile(const Brain*, std::size_t, const Plan&, std::size_t, std::size_t,
                       const Held&, const Results&, std::size_t);

}  // namespace fcnkit
