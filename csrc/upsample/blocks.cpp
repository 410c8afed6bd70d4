#include "upsample/blocks.hpp"

#include <algorithm>
#include <bitset>

namespace fcnkit {
namespace {

// Pixels for which it pays to look at a part as a whole: where its bounds are at hand, and where
// they have to be found first.
constexpr std::size_t kPixelsToBound = 256;
constexpr std::size_t kPixelsToFind = 1024;
// Bounds that leave more than 7 of 8 logits to compute cost more than they save. Then the next
// parts of this size are computed without.
constexpr std::size_t kPause = 8;

constexpr std::size_t kArea = kLeaf * kLeaf;

std::size_t most_sights(const Axis& axis) {
    std::size_t most = 0;
    for (const Piece& piece : axis.pieces) {
        most = std::max(most, piece.count);
    }
    return most;
}


// Calls body(lane) for every bit.
template <class Body>
void for_each_lane(std::uint64_t lanes, const Body& body) {
    for (std::size_t lane = 0; lanes != 0; ++lane, lanes >>= 1) {
        if ((lanes & 1) != 0) {
            body(lane);
        }
    }
}

// The pixels of a part that a piece shows, counted from the first of the part.
struct Shown {
    std::size_t begin, end;
};

Shown shown(const Piece& piece, std::size_t at, std::size_t length) {
    const std::ptrdiff_t first = piece.span + static_cast<std::ptrdiff_t>(at);
    const auto clipped = [&](std::size_t pixel) {
        const std::ptrdiff_t inside = static_cast<std::ptrdiff_t>(pixel) - first;
        return static_cast<std::size_t>(
            std::clamp(inside, std::ptrdiff_t{0}, static_cast<std::ptrdiff_t>(length)));
    };
    return {clipped(piece.begin), clipped(piece.end)};
}

bool shows(const Block& block, const Part& part) {
    const Shown down = shown(*block.row, part.y, part.height);
    const Shown right = shown(*block.column, part.x, part.width);
    return down.begin < down.end && right.begin < right.end;
}

// Blocks of equal kind: open[0] of the worker.
class Batch {
   public:
    Batch(const Blocks& blocks, Worker& worker)
        : blocks_(blocks),
          worker_(worker),
          row_(*worker.open[0].blocks[0].row),
          column_(*worker.open[0].blocks[0].column),
          tiles_(row_.count * column_.count),
          down_(blocks.rows.sights_of(row_)->offset, row_.length),
          right_(blocks.columns.sights_of(column_)->offset, column_.length) {
        const std::size_t stride = blocks.layer.stride();
        whole_ = row_.length == stride && column_.length == stride;
        bounded_ = blocks.bounds != nullptr && tiles_ <= Bounds::kMostTiles;
    }

    void label() {
        Open& open = worker_.open[0];
        copy_features(open);
        open.count = blocks_.layer.classes();
        for (std::size_t c = 0; c < open.count; ++c) {
            open.classes[c] = static_cast<std::uint8_t>(c);
        }
        label_part(0, 0, 0);
    }

   private:
    // The scores that each block sees, class by class: (q, p), (q, p - 1), (q - 1, p) and
    // (q - 1, p - 1) of its cell (q, p) in each tile.
    void copy_features(Open& open) const {
        const std::size_t rows = blocks_.plane[0], columns = blocks_.plane[1];
        const std::size_t classes = blocks_.layer.classes();
        for (std::size_t lane = 0; lane < open.size; ++lane) {
            const Sight* down = blocks_.rows.sights_of(*open.blocks[lane].row);
            const Sight* right = blocks_.columns.sights_of(*open.blocks[lane].column);
            float* to = open.features.data() + lane;
            for (std::size_t t = 0; t < tiles_; ++t) {
                const Sight &y = down[t / column_.count], &x = right[t % column_.count];
                const std::size_t tile = (y.tile - blocks_.first_row) * blocks_.row_tiles + x.tile;
                const float* score = blocks_.scores +
                                     (tile * classes * rows + y.cell + 1) * columns + x.cell + 1;
                for (std::size_t c = 0; c < classes; ++c, score += rows * columns) {
                    to[0] = score[0];
                    to[kBatch] = *(score - 1);
                    to[2 * kBatch] = *(score - columns);
                    to[3 * kBatch] = *(score - columns - 1);
                    to += 4 * kBatch;
                }
            }
        }
    }

    // Part (i, j) of the blocks that are open after `level` halvings.
    void label_part(std::size_t level, std::size_t i, std::size_t j) {
        const std::size_t down = std::min(level, down_.halvings());
        const std::size_t right = std::min(level, right_.halvings());
        const std::size_t y = down_.begin(down, i), x = right_.begin(right, j);
        const Part part{y, x, down_.begin(down, i + 1) - y, right_.begin(right, j + 1) - x};
        if (part.height == 0 || part.width == 0) {
            return;
        }
        Open& open = worker_.open[level];
        std::uint64_t left = 0;
        for (std::size_t lane = 0; lane < open.size; ++lane) {
            left |= std::uint64_t{shows(open.blocks[lane], part)} << lane;
        }
        const std::size_t pixels = open.size * part.height * part.width;
        const bool pays = bounded_ && pixels >= (whole_ ? kPixelsToBound : kPixelsToFind);
        if (left != 0 && pays && !paused(level)) {
            find_contenders(level, i, j, part);
            fill(open, part, left & open.answer.decided);
            left &= ~open.answer.decided;
        } else {
            for (std::size_t k = 0; k < open.count; ++k) {
                open.answer.contenders[open.classes[k]] = left;
            }
        }
        if (left == 0) {
            return;
        }
        if (level == std::max(down_.halvings(), right_.halvings())) {
            label_leaf(open, part, left);
            return;
        }
        keep_open(open, left, worker_.open[level + 1]);
        const std::size_t rows = level < down_.halvings() ? 2 : 1;
        const std::size_t columns = level < right_.halvings() ? 2 : 1;
        for (std::size_t k = 0; k < rows * columns; ++k) {
            label_part(level + 1, i * rows + k / columns, j * columns + k % columns);
        }
    }

    void find_contenders(std::size_t level, std::size_t i, std::size_t j, const Part& part) {
        Open& open = worker_.open[level];
        for (std::size_t t = 0; t < tiles_; ++t) {
            if (whole_) {
                worker_.bounds[t] = blocks_.bounds->whole(level, i, j);
            } else {
                float* to = open.bounds.data() + t * blocks_.bounds->size();
                blocks_.bounds->any(in_cell(t, part), open.classes.data(), open.count, to);
                worker_.bounds[t] = to;
            }
        }
        const Leaf leaf = blocks_.layer.leaf();
        blocks_.table.bound_part(
            PartBound{worker_.bounds.data(), tiles_, open.features.data(), leaf.tile_features,
                      leaf.bias, blocks_.bounds->slack(), open.classes.data(), open.count,
                      leaf.taps, leaf.first_tap, open.size, worker_.known.data()},
            open.answer);
        std::size_t kept = 0;
        for (std::size_t k = 0; k < open.count; ++k) {
            kept += std::bitset<kBatch>(open.answer.contenders[open.classes[k]]).count();
        }
        if (8 * kept > 7 * open.size * open.count) {
            worker_.pauses[level] = kPause;
        }
    }

    bool paused(std::size_t level) {
        std::size_t& pause = worker_.pauses[level];
        return pause > 0 && pause-- > 0;
    }

    // A part as tile t sees it.
    Part in_cell(std::size_t t, const Part& part) const {
        const Sight& down = blocks_.rows.sights_of(row_)[t / column_.count];
        const Sight& right = blocks_.columns.sights_of(column_)[t % column_.count];
        return {down.offset + part.y, right.offset + part.x, part.height, part.width};
    }

    // Blocks that have one contender each.
    void fill(const Open& open, const Part& part, std::uint64_t decided) const {
        for (std::size_t k = 0; k < open.count && decided != 0; ++k) {
            const std::uint8_t c = open.classes[k];
            for_each_lane(decided & open.answer.contenders[c], [&](std::size_t lane) {
                store(open.blocks[lane], part, [&](std::size_t, std::size_t n, std::size_t to) {
                    std::fill_n(blocks_.out.labels + to, n, c);
                });
            });
            decided &= ~open.answer.contenders[c];
        }
    }

    // Moves the blocks of some lanes together, with the classes that can win in any of them.
    void keep_open(const Open& open, std::uint64_t lanes, Open& to) const {
        to.size = 0;
        std::array<std::uint8_t, kBatch> from;
        for_each_lane(lanes, [&](std::size_t lane) {
            to.blocks[to.size] = open.blocks[lane];
            from[to.size++] = static_cast<std::uint8_t>(lane);
        });
        const float* features = open.features.data();
        float* kept = to.features.data();
        for (std::size_t k = 0; k < tiles_ * blocks_.layer.features(); ++k) {
            for (std::size_t lane = 0; lane < to.size; ++lane) {
                kept[lane] = features[from[lane]];
            }
            features += kBatch;
            kept += kBatch;
        }
        to.count = 0;
        for (std::size_t k = 0; k < open.count; ++k) {
            if ((open.answer.contenders[open.classes[k]] & lanes) != 0) {
                to.classes[to.count++] = open.classes[k];
            }
        }
    }

    void label_leaf(Open& open, const Part& part, std::uint64_t lanes) {
        Leaf leaf = blocks_.layer.leaf();
        for (std::size_t t = 0; t < tiles_; ++t) {
            const Part cell = in_cell(t, part);
            worker_.spots[t] = blocks_.layer.spot(cell.y, cell.x, part.width);
        }
        for (std::size_t k = 0; k < open.count; ++k) {
            open.answer.contenders[open.classes[k]] &= lanes;
        }
        leaf.spots = worker_.spots.data();
        leaf.tiles = tiles_;
        leaf.features = open.features.data();
        leaf.classes = open.classes.data();
        leaf.count = open.count;
        leaf.rows = part.height;
        leaf.best = worker_.best.data();
        if (blocks_.out.confidence != nullptr) {
            rate_leaf(open, leaf, part, lanes);
            return;
        }
        blocks_.table.label_leaf(leaf, open.answer.contenders, worker_.labels.data());
        for_each_lane(lanes, [&](std::size_t lane) {
            const std::uint8_t* labels = worker_.labels.data() + lane * kArea;
            store(open.blocks[lane], part, [&](std::size_t at, std::size_t n, std::size_t to) {
                std::copy_n(labels + at, n, blocks_.out.labels + to);
            });
        });
    }

    // Labels with confidence, which needs the logits of all classes.
    void rate_leaf(const Open& open, const Leaf& leaf, const Part& part, std::uint64_t lanes) {
        blocks_.table.leaf_logits(leaf, lanes, worker_.logits.data());
        const float share = 1.0F / static_cast<float>(tiles_);
        std::uint8_t* found = worker_.sure.data();
        const Results results{found, found + kArea, found + 2 * kArea};
        for_each_lane(lanes, [&](std::size_t lane) {
            const float* logits = worker_.logits.data() + lane * leaf.count * kArea;
            const Views<float> sums{&logits, 1, leaf.count, kArea, 0};
            blocks_.table.confidence.of<float>()(sums, part.height * kLeaf, share, results);
            store(open.blocks[lane], part, [&](std::size_t at, std::size_t n, std::size_t to) {
                const Results out = blocks_.out + to;
                std::copy_n(results.labels + at, n, out.labels);
                std::copy_n(results.confidence + at, n, out.confidence);
                std::copy_n(results.margin + at, n, out.margin);
            });
        });
    }

    // Calls row(place in the leaf, pixels, place in the results) for the rows of a part that are shown.
    template <class Row>
    void store(const Block& block, const Part& part, const Row& row) const {
        const Shown down = shown(*block.row, part.y, part.height);
        const Shown right = shown(*block.column, part.x, part.width);
        const auto pixel = [](std::ptrdiff_t span, std::size_t more) {
            return static_cast<std::size_t>(span + static_cast<std::ptrdiff_t>(more));
        };
        const std::size_t x = pixel(block.column->span, part.x + right.begin);
        for (std::size_t y = down.begin; y < down.end; ++y) {
            const std::size_t at = pixel(block.row->span, part.y + y) - blocks_.top;
            row(y * kLeaf + right.begin, right.end - right.begin, at * blocks_.width + x);
        }
    }

    const Blocks& blocks_;
    Worker& worker_;
    const Piece& row_;
    const Piece& column_;
    std::size_t tiles_;
    Division down_, right_;
    bool whole_;                // whether the blocks are whole cells, so that bounds are at hand
    bool bounded_;
};

}  // namespace

void Worker::prepare(const Blocks& blocks) {
    const auto grow = [](auto& buffer, std::size_t n) {
        buffer.resize(std::max(buffer.size(), n));
    };
    const std::size_t tiles = most_sights(blocks.rows) * most_sights(blocks.columns);
    const std::size_t levels = Division(0, blocks.layer.stride()).halvings();
    const bool bounded = blocks.bounds != nullptr;
    for (std::size_t level = 0; level <= levels; ++level) {
        grow(open[level].features, tiles * blocks.layer.features() * kBatch);
        if (bounded && tiles > 1) {
            grow(open[level].bounds, std::min(tiles, Bounds::kMostTiles) * blocks.bounds->size());
        }
    }
    pauses = {};
    grow(bounds, tiles);
    grow(spots, tiles);
    grow(known, blocks.layer.classes() * 5 * 32);
    grow(best, 2 * kBatch * kArea);
    grow(labels, kBatch * kArea);
    if (blocks.out.confidence != nullptr) {
        grow(logits, kBatch * blocks.layer.classes() * kArea);
        grow(sure, 3 * kArea);
    }
}

void label_bands(const Blocks& blocks, std::size_t begin, std::size_t end, Worker& worker) {
    Open& open = worker.open[0];
    const auto flush = [&] {
        if (open.size > 0) {
            Batch(blocks, worker).label();
            open.size = 0;
        }
    };
    for (std::size_t row_kind = 0; row_kind < blocks.rows.kinds.size(); ++row_kind) {
        for (std::size_t kind = 0; kind < blocks.columns.kinds.size(); ++kind) {
            for (std::size_t k = begin; k < end; ++k) {
                const Piece& row = blocks.rows.pieces[k];
                if (row.kind != row_kind) {
                    continue;
                }
                for (const Piece& column : blocks.columns.pieces) {
                    if (column.kind != kind) {
                        continue;
                    }
                    open.blocks[open.size++] = {&row, &column};
                    if (open.size == kBatch) {
                        flush();
                    }
                }
            }
            flush();
        }
    }
}

}  // namespace fcnkit
