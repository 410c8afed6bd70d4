#include "upsample/blocks.hpp"

#include <algorithm>
#include <cstring>

#include "dispatch.hpp"

namespace fcnkit {
namespace {

// A part of the span of a block, in pixels from its first.
struct Part {
    std::size_t y, x, height, width;
};

std::size_t most_sights(const Axis& axis) {
    std::size_t most = 0;
    for (const Piece& piece : axis.pieces) {
        most = std::max(most, piece.count);
    }
    return most;
}

std::uint64_t lanes(std::size_t n) { return n == kBatch ? ~std::uint64_t{0} : (1ULL << n) - 1; }

// The pixels of a part that a piece shows, counted from the first of the part.
struct Shown {
    std::size_t begin, end;
};

Shown shown(const Piece& piece, std::size_t at, std::size_t length) {
    const std::ptrdiff_t first = piece.span + static_cast<std::ptrdiff_t>(at);
    const auto clipped = [&](std::size_t pixel) {
        const std::ptrdiff_t inside = static_cast<std::ptrdiff_t>(pixel) - first;
        return std::clamp(inside, std::ptrdiff_t{0}, static_cast<std::ptrdiff_t>(length));
    };
    return {static_cast<std::size_t>(clipped(piece.begin)),
            static_cast<std::size_t>(clipped(piece.end))};
}

// A batch of blocks of equal kind.
class Batch {
   public:
    Batch(const Blocks& blocks, Worker& worker) : blocks_(blocks), worker_(worker) {
        const Block& block = worker.batch[0];
        height_ = block.row->length;
        width_ = block.column->length;
        tiles_ = block.row->count * block.column->count;
    }

    void label() {
        copy_features();
        const std::size_t down = halvings(height_), right = halvings(width_);
        for (std::size_t i = 0; i < std::size_t{1} << down; ++i) {
            for (std::size_t j = 0; j < std::size_t{1} << right; ++j) {
                const std::size_t y = part_begin(height_, down, i);
                const std::size_t x = part_begin(width_, right, j);
                label_leaf({y, x, part_begin(height_, down, i + 1) - y,
                            part_begin(width_, right, j + 1) - x});
            }
        }
    }

   private:
    // The scores that each block sees, class by class: (q, p), (q, p - 1), (q - 1, p) and
    // (q - 1, p - 1) of its cell (q, p) in each tile.
    void copy_features() {
        const std::size_t rows = blocks_.plane[0], columns = blocks_.plane[1];
        for (std::size_t lane = 0; lane < worker_.size; ++lane) {
            const Block& block = worker_.batch[lane];
            float* to = worker_.features.data() + lane;
            for (std::size_t i = 0; i < block.row->count; ++i) {
                const Sight& down = blocks_.rows.sights_of(*block.row)[i];
                for (std::size_t j = 0; j < block.column->count; ++j) {
                    const Sight& right = blocks_.columns.sights_of(*block.column)[j];
                    const std::size_t tile =
                        (down.tile - blocks_.first_row) * blocks_.row_tiles + right.tile;
                    const float* from =
                        blocks_.scores +
                        (tile * blocks_.layer.classes() * rows + down.cell + 1) * columns +
                        right.cell + 1;
                    for (std::size_t c = 0; c < blocks_.layer.classes(); ++c) {
                        const float* score = from + c * rows * columns;
                        to[0] = score[0];
                        to[kBatch] = *(score - 1);
                        to[2 * kBatch] = *(score - columns);
                        to[3 * kBatch] = *(score - columns - 1);
                        to += 4 * kBatch;
                    }
                }
            }
        }
    }

    void label_leaf(const Part& part) {
        std::fill(worker_.contenders.begin(), worker_.contenders.end(), lanes(worker_.size));
        const Block& block = worker_.batch[0];
        Spot* spot = worker_.spots.data();
        for (std::size_t i = 0; i < block.row->count; ++i) {
            const std::size_t y = blocks_.rows.sights_of(*block.row)[i].offset + part.y;
            for (std::size_t j = 0; j < block.column->count; ++j) {
                const std::size_t x = blocks_.columns.sights_of(*block.column)[j].offset + part.x;
                *spot++ = blocks_.layer.spot(y, x);
            }
        }
        Leaf leaf = blocks_.layer.leaf();
        leaf.spots = worker_.spots.data();
        leaf.tiles = tiles_;
        leaf.features = worker_.features.data();
        leaf.rows = part.height;
        leaf.best = worker_.best.data();
        active_table().label_leaf(leaf, worker_.contenders.data(), worker_.labels.data());
        for (std::size_t lane = 0; lane < worker_.size; ++lane) {
            store(worker_.batch[lane], part, worker_.labels.data() + lane * kLeaf * kLeaf);
        }
    }

    void store(const Block& block, const Part& part, const std::uint8_t* labels) {
        const Shown down = shown(*block.row, part.y, part.height);
        const Shown right = shown(*block.column, part.x, part.width);
        for (std::size_t y = down.begin; y < down.end; ++y) {
            std::uint8_t* row = first_label(block, part, y) + right.begin;
            std::copy(labels + y * kLeaf + right.begin, labels + y * kLeaf + right.end, row);
        }
    }

    // Where the label of row y and column 0 of a part would go, if it were inside.
    std::uint8_t* first_label(const Block& block, const Part& part, std::size_t y) const {
        const auto at = [](std::ptrdiff_t span, std::size_t more) {
            return span + static_cast<std::ptrdiff_t>(more);
        };
        const std::ptrdiff_t row =
            at(block.row->span, part.y + y) - static_cast<std::ptrdiff_t>(blocks_.top);
        return blocks_.labels + row * static_cast<std::ptrdiff_t>(blocks_.width) +
               at(block.column->span, part.x);
    }

    const Blocks& blocks_;
    Worker& worker_;
    std::size_t height_, width_;  // of a span
    std::size_t tiles_;
};

}  // namespace

void Worker::prepare(const Blocks& blocks) {
    const std::size_t tiles = most_sights(blocks.rows) * most_sights(blocks.columns);
    const std::size_t classes = blocks.layer.classes();
    features.resize(std::max(features.size(), tiles * blocks.layer.features() * kBatch));
    spots.resize(std::max(spots.size(), tiles));
    contenders.resize(classes);
    best.resize(2 * kBatch * kLeaf * kLeaf);
    labels.resize(kBatch * kLeaf * kLeaf);
}

void label_bands(const Blocks& blocks, std::size_t begin, std::size_t end, Worker& worker) {
    const auto flush = [&] {
        if (worker.size > 0) {
            Batch(blocks, worker).label();
            worker.size = 0;
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
                    worker.batch[worker.size++] = {&row, &column};
                    if (worker.size == kBatch) {
                        flush();
                    }
                }
            }
            flush();
        }
    }
}

}  // namespace fcnkit
