// The blocks of an image, labeled in batches of those that see equal weights.
#pragma once

#include <array>
#include <vector>

#include "kernel_set.hpp"
#include "upsample/bounds.hpp"
#include "upsample/pieces.hpp"

namespace fcnkit {

// A block is a piece of the rows by a piece of the columns.
struct Blocks {
    const Table& table;
    const Layer& layer;
    const Bounds* bounds;  // null to compute every logit of every pixel
    const Axis& rows;
    const Axis& columns;
    const float* scores;     // (tiles, classes, rows, columns) with a border of one score
    std::size_t plane[2];    // rows and columns of that
    std::size_t first_row;   // of tiles, in scores
    std::size_t row_tiles;   // tiles in a row of tiles
    Results out;             // of the pixels of row `top` and of those below
    std::size_t top, width;  // of the results
};

struct Block {
    const Piece* row;
    const Piece* column;
};

// Blocks of a batch that a part is still open in, side by side, and the classes that can win there.
struct Open {
    std::size_t size = 0;
    std::array<Block, kBatch> blocks;
    std::vector<float> features;  // (tiles, features of a tile, kBatch)
    std::vector<float> bounds;    // (tiles, classes, taps, 5), where they have to be found
    std::array<std::uint8_t, 256> classes;
    std::size_t count = 0;  // of classes
    PartAnswer answer;
};

// What a thread works in.
struct Worker {
    std::array<Open, 4> open;           // by halvings
    std::array<std::size_t, 4> pauses;  // by halvings: parts to compute without bounds
    std::vector<const float*> bounds;
    std::vector<Spot> spots;
    std::vector<float> known;  // scratch of BoundPart
    std::vector<float> best;   // scratch of LabelLeaf
    std::vector<std::uint8_t> labels;
    std::vector<float> logits;  // of a leaf, where confidence is wanted
    std::vector<std::uint8_t> sure;

    void prepare(const Blocks& blocks);
};

// Labels the bands [begin, end): pieces of the rows over the whole width.
void label_bands(const Blocks& blocks, std::size_t begin, std::size_t end, Worker& worker);

}  // namespace fcnkit
