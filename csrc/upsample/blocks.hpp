// The blocks of an image, labeled in batches of those that see equal weights.
#pragma once

#include <array>
#include <vector>

#include "upsample/layer.hpp"
#include "upsample/pieces.hpp"

namespace fcnkit {

// A block is a piece of the rows by a piece of the columns.
struct Blocks {
    const Layer& layer;
    const Axis& rows;
    const Axis& columns;
    const float* scores;     // (tiles, classes, rows, columns) with a border of one score
    std::size_t plane[2];    // rows and columns of that
    std::size_t first_row;   // of tiles, in scores
    std::size_t row_tiles;   // tiles in a row of tiles
    bool bounded;
    std::uint8_t* labels;    // of the pixels of row `top` and of those below
    std::size_t top, width;  // of the labels
};

struct Block {
    const Piece* row;
    const Piece* column;
};

// What a thread works in.
struct Worker {
    std::array<Block, kBatch> batch;
    std::size_t size = 0;
    std::vector<float> features;  // (tiles, features of a tile, kBatch)
    std::vector<Spot> spots;
    std::vector<std::uint64_t> contenders;
    std::vector<float> best;
    std::vector<std::uint8_t> labels;

    void prepare(const Blocks& blocks);
};

// Labels the bands [begin, end): pieces of the rows over the whole width.
void label_bands(const Blocks& blocks, std::size_t begin, std::size_t end, Worker& worker);

}  // namespace fcnkit
