// Splitting a loop over threads that live for one call: no pool, so fork and exit stay simple.
#pragma once

#include <algorithm>
#include <cstddef>
#include <system_error>
#include <thread>
#include <vector>

namespace fcnkit {

// Starting a thread costs tens of microseconds, what a core moves through memory in about a
// megabyte: a thread that gets less than this many bytes does not pay.
constexpr std::size_t kBytesPerThread = std::size_t{1} << 20;

// Runs body(begin, end) over [0, items) in at most `threads` consecutive pieces, each but the last
// a multiple of `grain` items. bytes is what the whole loop moves. A body must not throw.
template <class Body>
void parallel_for(std::size_t items, std::size_t grain, std::size_t bytes, std::size_t threads,
                  const Body& body) {
    const std::size_t useful = std::min(threads, bytes / kBytesPerThread);
    if (useful <= 1 || items <= grain) {
        body(std::size_t{0}, items);
        return;
    }
    const std::size_t grains = (items + grain - 1) / grain;
    const std::size_t piece = (grains + useful - 1) / useful * grain;
    std::vector<std::thread> others;
    others.reserve(useful);
    std::size_t begin = std::min(piece, items);  // the first piece is the calling thread's
    try {
        for (; begin < items; begin += piece) {
            const std::size_t end = std::min(items, begin + piece);
            others.emplace_back([&body, begin, end] { body(begin, end); });
        }
    } catch (const std::system_error&) {  // no more threads to be had: the rest is done here
        for (; begin < items; begin += piece) {
            body(begin, std::min(items, begin + piece));
        }
    }
    body(std::size_t{0}, std::min(piece, items));
    for (std::thread& other : others) {
        other.join();
    }
}

}  // namespace fcnkit
