// Covering an image with tiles: cutting them out and putting their logits together again.
// Sizes are trusted; bindings.cpp checks them.
#pragma once

#include <vector>

#include "kernels.hpp"

namespace fcnkit {

// Tile (i, j) has its corner at (tops[i], lefts[j]); tiles are counted row by row. Corners ascend,
// lie inside the image, and the tiles cover it.
struct Plan {
    std::size_t height, width;
    std::size_t tile_height, tile_width;
    std::vector<std::size_t> tops, lefts;

    std::size_t tiles() const { return tops.size() * lefts.size(); }
};

// Whether tiles of a side ascend from 0 and cover an axis, each beginning inside of it.
bool covers(std::size_t extent, std::size_t side, const std::vector<std::size_t>& starts);

// out: (tiles, tile_height, tile_width, 3). What lies outside the image is reflected.
void cut_tiles(const std::uint8_t* image, const Plan& plan, std::uint8_t* out,
               std::size_t threads);

// out: (tiles, 3, tile_height, tile_width); T is float, or std::uint16_t for the bits of halves.
template <class T>
void gather_tiles(const std::uint8_t* image, const Plan& plan, const Normalize& normalize, T* out,
                  std::size_t threads);

// logits: (tiles, classes, tile_height, tile_width); out: (height, width).
template <class T>
void stitch_tiles(const T* logits, std::size_t classes, const Plan& plan, const Results& out,
                  std::size_t threads);

// Size of what has to be held while tiles are added one by one.
struct HeldShape {
    std::size_t rows;     // most rows that two rows of tiles share
    std::size_t columns;  // most columns that two neighbors of a row share
    std::size_t steps;    // most rows that one row of tiles finishes
};

HeldShape held_shape(const Plan& plan);

// Sums of the pixels that some tile has reached and a later one will reach.
struct Held {
    float* below;  // (classes, shape.rows, plan.width), shared with the next row of tiles
    float* right;  // (shape.steps, classes, shape.columns), shared with the next tile of the row
    HeldShape shape;
};

// Adds tile (i, j) and labels what no later tile reaches. Tiles come in order; out, (rows that
// row i finishes, plan.width), is complete after the last tile of the row.
// logits: (classes, tile_height, tile_width).
template <class T>
void add_tile(const T* logits, std::size_t classes, const Plan& plan, std::size_t i,
              std::size_t j, const Held& held, const Results& out, std::size_t threads);

}  // namespace fcnkit
