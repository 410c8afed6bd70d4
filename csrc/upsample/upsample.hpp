// Labels from class scores: the last layer, the sum over overlapping tiles and the argmax in one,
// and the softmax where confidence is wanted.
// Sizes are trusted; bindings.cpp checks them.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "kernel_set.hpp"
#include "tiles.hpp"
#include "upsample/bounds.hpp"

namespace fcnkit {

struct Workspace;

// What a call works in. It is kept for the next call, so that only the first ones allocate. Several
// threads may call at once: each takes a workspace.
class Workspaces {
   public:
    Workspaces();
    ~Workspaces();
    std::unique_ptr<Workspace> take();
    void give(std::unique_ptr<Workspace> workspace);

   private:
    std::mutex mutex_;
    std::vector<std::unique_ptr<Workspace>> free_;
};

// The layer of an open model, ready to be used.
struct Upsampling {
    template <class... Arguments>
    explicit Upsampling(const Arguments&... arguments) : layer(arguments...), bounds(layer) {}

    const Layer layer;
    const Bounds bounds;
    Workspaces workspaces;
};

// Rows [begin, end) of the image, which no tile outside the rows [first, last) of tiles sees.
struct Rows {
    std::size_t first, last;
    std::size_t begin, end;
};

// scores: (tiles of these rows, classes, tile_height / stride, tile_width / stride), finite and so
// small that no logit overflows; out: (end - begin, plan.width). Bounded: leave out what cannot
// change a label; not where confidence is wanted, which depends on every logit. The labels are the
// same either way.
template <class T>
void upsample_argmax(const T* scores, const Plan& plan, const Rows& rows, Upsampling& upsampling,
                     const Table& table, bool bounded, const Results& out, std::size_t threads);

// The largest magnitude; infinity if any score is not finite.
template <class T>
float largest_score(const T* scores, std::size_t n);

}  // namespace fcnkit
