#include "upsample/upsample.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "half.hpp"
#include "parallel.hpp"
#include "upsample/blocks.hpp"

namespace fcnkit {

struct Workspace {
    Axis rows, columns;
    std::vector<float> scores;
    std::vector<Worker> workers;
};

Workspaces::Workspaces() = default;
Workspaces::~Workspaces() = default;

std::unique_ptr<Workspace> Workspaces::take() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (free_.empty()) {
        return std::make_unique<Workspace>();
    }
    std::unique_ptr<Workspace> workspace = std::move(free_.back());
    free_.pop_back();
    return workspace;
}

void Workspaces::give(std::unique_ptr<Workspace> workspace) {
    const std::lock_guard<std::mutex> lock(mutex_);
    free_.push_back(std::move(workspace));
}

namespace {

// One plane with a border: zeros, or the outermost scores again. Returns where the next one goes.
template <class T>
float* copy_plane(const T* plane, std::size_t height, std::size_t width, bool edge, float* to) {
    for (std::size_t y = 0; y < height + 2; ++y) {
        const bool inside = 1 <= y && y <= height;
        if (!inside && !edge) {
            std::fill(to, to + width + 2, 0.0F);
        } else {
            const T* row = plane + std::min(y == 0 ? 0 : y - 1, height - 1) * width;
            std::transform(row, row + width, to + 1, [](T value) { return to_float(value); });
            to[0] = edge ? to[1] : 0.0F;
            to[width + 1] = edge ? to[width] : 0.0F;
        }
        to += width + 2;
    }
    return to;
}

}  // namespace

template <class T>
void upsample_argmax(const T* scores, const Plan& plan, const Rows& rows, Upsampling& upsampling,
                     const Table& table, bool bounded, const Results& out, std::size_t threads) {
    const Layer& layer = upsampling.layer;
    std::unique_ptr<Workspace> space = upsampling.workspaces.take();
    space->rows.cut(plan.tops, rows.first, rows.last, plan.tile_height, layer.stride(), rows.begin,
                    rows.end);
    space->columns.cut(plan.lefts, 0, plan.lefts.size(), plan.tile_width, layer.stride(), 0,
                       plan.width);
    const std::size_t height = plan.tile_height / layer.stride();
    const std::size_t width = plan.tile_width / layer.stride();
    const std::size_t planes = (rows.last - rows.first) * plan.lefts.size() * layer.classes();
    space->scores.resize(planes * (height + 2) * (width + 2));
    float* to = space->scores.data();
    for (std::size_t plane = 0; plane < planes; ++plane) {
        to = copy_plane(scores + plane * height * width, height, width, layer.edge(), to);
    }
    const std::size_t bands = space->rows.pieces.size();
    const std::size_t share = (bands + threads - 1) / threads;
    space->workers.resize(std::max(space->workers.size(), (bands + share - 1) / share));
    const Blocks blocks{table,
                        layer,
                        bounded && out.confidence == nullptr ? &upsampling.bounds : nullptr,
                        space->rows,
                        space->columns,
                        space->scores.data(),
                        {height + 2, width + 2},
                        rows.first,
                        plan.lefts.size(),
                        out,
                        rows.begin,
                        plan.width};
    for (Worker& worker : space->workers) {
        worker.prepare(blocks);
    }
    const std::size_t bytes = (rows.end - rows.begin) * plan.width * layer.classes() * sizeof(T);
    parallel_for(bands, share, bytes, threads, [&](std::size_t begin, std::size_t end) {
        label_bands(blocks, begin, end, space->workers[begin / share]);
    });
    upsampling.workspaces.give(std::move(space));
}

template void upsample_argmax(const float*, const Plan&, const Rows&, Upsampling&,
                              const Table&, bool, const Results&, std::size_t);
template void upsample_argmax(const Half*, const Plan&, const Rows&, Upsampling&,
                              const Table&, bool, const Results&, std::size_t);
template void upsample_argmax(const Brain*, const Plan&, const Rows&, Upsampling&,
                              const Table&, bool, const Results&, std::size_t);

template <class T>
float largest_score(const T* scores, std::size_t n) {
    std::uint32_t largest = 0;  // magnitudes of floats are in the order of their bits
    for (std::size_t k = 0; k < n; ++k) {
        const float value = to_float(scores[k]);
        std::uint32_t bits;
        std::memcpy(&bits, &value, 4);
        largest = std::max(largest, bits & 0x7FFFFFFFU);
    }
    return largest >= 0x7F800000U ? std::numeric_limits<float>::infinity() : from_bits(largest);
}

template float largest_score(const float*, std::size_t);
template float largest_score(const Half*, std::size_t);
template float largest_score(const Brain*, std::size_t);

}  // namespace fcnkit
