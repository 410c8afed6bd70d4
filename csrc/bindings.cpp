// Binds the kernels as fcnkit.runtime.pixels._kernels.
//
// fcnkit.runtime checks arguments for people; here only what protects memory is checked again,
// and refused with a short std::invalid_argument (ValueError). Arrays have to be C-contiguous and
// of the exact dtype already: nothing is converted. Every function reads shapes and pointers
// first, then releases the GIL and touches no Python object until it is done.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "deflate.hpp"
#include "dispatch.hpp"
#include "images.hpp"
#include "tiles.hpp"
#include "upsample/upsample.hpp"

namespace py = pybind11;

namespace {

using fcnkit::Bytes;
using fcnkit::contiguous;
using fcnkit::Counts;
using fcnkit::Floats;
using fcnkit::Plan;
using fcnkit::require;
using fcnkit::side;
using fcnkit::size;
using fcnkit::Table;
using fcnkit::with_logits;

// Runs kernel(table, begin, end) over pieces of all pixels and adds up what it returns.
template <class Kernel>
std::size_t sum_without_gil(std::size_t pixels, std::size_t bytes_per_pixel, std::size_t threads,
                            const Kernel& kernel) {
    const py::gil_scoped_release release;
    return fcnkit::sum_over_pixels(pixels, bytes_per_pixel, threads, kernel);
}

fcnkit::Colors make_colors(const Bytes& palette, const std::vector<std::uint8_t>& void_color) {
    require(palette.ndim() == 2 && side(palette, 0) >= 1 && side(palette, 0) <= 256 &&
                side(palette, 1) == 3,
            "palette must be (1..256, 3)");
    require(void_color.size() == 3, "void_color must have 3 values");
    fcnkit::Colors colors{};
    colors.classes = static_cast<unsigned>(side(palette, 0));
    for (unsigned label = 0; label < 256; ++label) {
        const bool known = label < colors.classes;
        const std::uint8_t* color =
            known ? palette.data() + 3 * std::size_t{label} : void_color.data();
        colors.rgbx[label][3] = known || label == fcnkit::kVoid ? 0 : 1;
        for (unsigned c = 0; c < 3 && colors.rgbx[label][3] == 0; ++c) {
            colors.rgbx[label][c] = color[c];
            colors.channel[c][label] = color[c];
        }
    }
    return colors;
}

bool decode(const Bytes& labels, const Bytes& palette, const std::vector<std::uint8_t>& void_color,
            Bytes& rgb, std::size_t threads) {
    const fcnkit::Colors colors = make_colors(palette, void_color);
    require(size(rgb) == 3 * size(labels) && threads >= 1, "sizes must agree");
    const std::uint8_t* from = labels.data();
    std::uint8_t* to = rgb.mutable_data();
    const auto kernel = [&](const Table& table, std::size_t begin, std::size_t end) {
        return !table.decode(from + begin, end - begin, colors, to + 3 * begin);
    };
    return sum_without_gil(size(labels), 4, threads, kernel) == 0;
}

fcnkit::Encoder make_encoder(const Bytes& keys, const Bytes& labels) {
    require(keys.ndim() == 2 && side(keys, 1) == 3 && size(labels) == side(keys, 0) &&
                size(labels) >= 1 && size(labels) <= 257,
            "keys must be (1..257, 3), labels one per key");
    std::vector<std::uint32_t> packed;
    for (std::size_t i = 0; i < size(labels); ++i) {
        const std::uint8_t* rgb = keys.data() + 3 * i;
        packed.push_back(static_cast<std::uint32_t>(rgb[0] | rgb[1] << 8 | rgb[2] << 16));
    }
    return fcnkit::make_encoder(packed, {labels.data(), labels.data() + size(labels)});
}

std::size_t encode(const Bytes& rgb, const fcnkit::Encoder& encoder, std::uint8_t unknown,
                   Bytes& labels, std::size_t threads) {
    require(size(rgb) == 3 * size(labels) && threads >= 1, "sizes must agree");
    const std::uint8_t* from = rgb.data();
    std::uint8_t* to = labels.mutable_data();
    const auto kernel = [&](const Table& table, std::size_t begin, std::size_t end) {
        return table.encode(from + 3 * begin, end - begin, encoder, unknown, to + begin);
    };
    return sum_without_gil(size(labels), 4, threads, kernel);
}

bool overlay(const Bytes& image, const Bytes& labels, const Bytes& palette, unsigned weight,
             Bytes& out, std::size_t threads) {
    const fcnkit::Colors colors = make_colors(palette, {0, 0, 0});
    require(size(image) == 3 * size(labels) && size(out) == size(image) && threads >= 1,
            "sizes must agree");
    require(weight <= 256, "weight must be 0..256");
    const std::uint8_t* from = image.data();
    const std::uint8_t* classes = labels.data();
    std::uint8_t* to = out.mutable_data();
    const auto kernel = [&](const Table& table, std::size_t begin, std::size_t end) {
        return !table.overlay(from + 3 * begin, classes + begin, end - begin, colors, weight,
                             to + 3 * begin);
    };
    return sum_without_gil(size(labels), 7, threads, kernel) == 0;
}

Plan make_plan(std::size_t height, std::size_t width, std::size_t tile_height,
               std::size_t tile_width, std::vector<std::size_t> tops,
               std::vector<std::size_t> lefts) {
    require(fcnkit::covers(height, tile_height, tops) && fcnkit::covers(width, tile_width, lefts),
            "tiles must ascend and cover the image");
    return {height, width, tile_height, tile_width, std::move(tops), std::move(lefts)};
}

void require_image(const Bytes& image, const Plan& plan, std::size_t threads) {
    require(image.ndim() == 3 && side(image, 0) == plan.height && side(image, 1) == plan.width &&
                side(image, 2) == 3 && threads >= 1,
            "image must be as the plan says");
}

std::size_t tile_pixels(const Plan& plan) {
    return plan.tiles() * plan.tile_height * plan.tile_width;
}

void cut(const Bytes& image, const Plan& plan, Bytes& out, std::size_t threads) {
    require_image(image, plan, threads);
    require(size(out) == 3 * tile_pixels(plan), "sizes must agree");
    const std::uint8_t* from = image.data();
    std::uint8_t* to = out.mutable_data();
    const py::gil_scoped_release release;
    fcnkit::cut_tiles(from, plan, to, threads);
}

// exact, exact_half: (3, 256) normalized values by channel and byte, the halves as bits.
fcnkit::Normalize make_normalize(const std::vector<float>& scale, const std::vector<float>& bias,
                                 const Floats& exact,
                                 const py::array_t<std::uint16_t, py::array::c_style>& halves) {
    require(scale.size() == 3 && bias.size() == 3 && size(exact) == 768 && size(halves) == 768,
            "normalization must be of 3 channels");
    fcnkit::Normalize normalize{};
    for (std::size_t c = 0; c < 3; ++c) {
        normalize.scale[c] = scale[c];
        normalize.bias[c] = bias[c];
        for (std::size_t byte = 0; byte < 256; ++byte) {
            normalize.exact[c][byte] = exact.data()[256 * c + byte];
            normalize.exact_half[c][byte] = halves.data()[256 * c + byte];
        }
    }
    return normalize;
}

void gather(const Bytes& image, const Plan& plan, const fcnkit::Normalize& normalize,
            py::array& out, std::size_t threads) {
    require_image(image, plan, threads);
    const char kind = out.dtype().char_();
    require((kind == 'f' || kind == 'e') && contiguous(out), "out must be float32 or float16");
    require(size(out) == 3 * tile_pixels(plan), "sizes must agree");
    const std::uint8_t* from = image.data();
    void* to = out.mutable_data();
    const py::gil_scoped_release release;
    if (kind == 'f') {
        fcnkit::gather_tiles(from, plan, normalize, static_cast<float*>(to), threads);
    } else {
        fcnkit::gather_tiles(from, plan, normalize, static_cast<std::uint16_t*>(to), threads);
    }
}

void argmax(const py::array& logits, Bytes& labels, std::size_t threads) {
    require(logits.ndim() == 4 && side(logits, 1) >= 1 && side(logits, 1) <= 256,
            "logits must be (N, 1..256, H, W)");
    const std::size_t images = side(logits, 0), classes = side(logits, 1);
    const std::size_t pixels = side(logits, 2) * side(logits, 3);
    require(size(labels) == images * pixels && threads >= 1, "sizes must agree");
    std::uint8_t* to = labels.mutable_data();
    with_logits(logits, [&](const auto* from) {
        const py::gil_scoped_release release;
        fcnkit::argmax_images(from, images, classes, pixels, to, threads);
    });
}

// sure: uint8 (2, as many pixels as there are labels), or None: confidence, then margin.
fcnkit::Results make_results(Bytes& labels, std::optional<Bytes>& sure) {
    const std::size_t pixels = size(labels);
    require(!sure || size(*sure) == 2 * pixels, "sizes must agree");
    std::uint8_t* first = sure ? sure->mutable_data() : nullptr;
    return {labels.mutable_data(), first, sure ? first + pixels : nullptr};
}

void stitch(const py::array& logits, const Plan& plan, Bytes& labels, std::optional<Bytes> sure,
            std::size_t threads) {
    require(logits.ndim() == 4 && side(logits, 0) == plan.tiles() && side(logits, 1) >= 1 &&
                side(logits, 1) <= 256 && side(logits, 2) == plan.tile_height &&
                side(logits, 3) == plan.tile_width && threads >= 1,
            "logits must be (tiles, 1..256, tile height, tile width)");
    require(size(labels) == plan.height * plan.width, "sizes must agree");
    const std::size_t classes = side(logits, 1);
    const fcnkit::Results to = make_results(labels, sure);
    with_logits(logits, [&](const auto* from) {
        const py::gil_scoped_release release;
        fcnkit::stitch_tiles(from, classes, plan, to, threads);
    });
}

// Labels must have as many rows as row i of the tiles finishes.
void add_tile(const py::array& logits, const Plan& plan, std::size_t i, std::size_t j,
              Floats& below, Floats& right, Bytes& labels, std::optional<Bytes> sure,
              std::size_t threads) {
    require(i < plan.tops.size() && j < plan.lefts.size() && threads >= 1, "no such tile");
    require(logits.ndim() == 3 && side(logits, 0) >= 1 && side(logits, 0) <= 256 &&
                side(logits, 1) == plan.tile_height && side(logits, 2) == plan.tile_width,
            "logits must be (1..256, tile height, tile width)");
    const std::size_t classes = side(logits, 0);
    const fcnkit::HeldShape shape = fcnkit::held_shape(plan);
    require(size(below) == classes * shape.rows * plan.width &&
                size(right) == shape.steps * classes * shape.columns,
            "below and right must be as the plan holds");
    const std::size_t end = i + 1 < plan.tops.size() ? plan.tops[i + 1] : plan.height;
    require(size(labels) == (end - plan.tops[i]) * plan.width, "labels must be the rows of a step");
    const fcnkit::Held held{below.mutable_data(), right.mutable_data(), shape};
    const fcnkit::Results to = make_results(labels, sure);
    with_logits(logits, [&](const auto* from) {
        const py::gil_scoped_release release;
        fcnkit::add_tile(from, classes, plan, i, j, held, to, threads);
    });
}

std::vector<std::size_t> held(const Plan& plan) {
    const fcnkit::HeldShape shape = fcnkit::held_shape(plan);
    return {shape.rows, shape.columns, shape.steps};
}

// weights: (C, C, 2s, 2s), or (C, 2s, 2s) for classes that are upsampled each by itself; bias: (C).
std::unique_ptr<fcnkit::Upsampling> make_upsampling(const Floats& weights, const Floats& bias,
                                                    std::size_t stride, bool edge) {
    const bool dense = weights.ndim() == 4;
    require(dense || weights.ndim() == 3, "weights must have 3 or 4 axes");
    const std::size_t classes = side(weights, 0);
    const std::size_t kernels = (dense ? classes : 1) * classes;
    require(classes >= 1 && classes <= 256 && size(bias) == classes && stride >= 2 &&
                stride <= 64 && size(weights) == kernels * 4 * stride * stride,
            "weights must be (C, C, 2s, 2s) or (C, 2s, 2s), bias (C)");
    const float* values = weights.data();
    const float* offsets = bias.data();
    const py::gil_scoped_release release;
    return std::make_unique<fcnkit::Upsampling>(values, offsets, classes, stride, dense, edge);
}

float largest_score(const py::array& scores) {
    const std::size_t n = size(scores);
    return with_logits(scores, [&](const auto* from) {
        const py::gil_scoped_release release;
        return fcnkit::largest_score(from, n);
    });
}

// scores: of the rows [first, first + T / columns) of tiles, which are all that see the rows
// [top, top + rows of labels) of the image.
void upsample_argmax(const py::array& scores, const Plan& plan, fcnkit::Upsampling& upsampling,
                     std::size_t first, std::size_t top, bool bounded, Bytes& labels,
                     std::optional<Bytes> sure, std::size_t threads) {
    const std::size_t stride = upsampling.layer.stride(), columns = plan.lefts.size();
    require(scores.ndim() == 4 && side(scores, 1) == upsampling.layer.classes() &&
                side(scores, 2) * stride == plan.tile_height &&
                side(scores, 3) * stride == plan.tile_width && threads >= 1,
            "scores must be (tiles, classes, tile height / stride, tile width / stride)");
    require(labels.ndim() == 2 && side(labels, 0) >= 1 && side(labels, 1) == plan.width,
            "labels must be rows of the image");
    const std::size_t end = top + side(labels, 0), last = first + side(scores, 0) / columns;
    require(side(scores, 0) % columns == 0 && first < last && last <= plan.tops.size() &&
                end <= plan.height && plan.tops[first] <= top &&
                plan.tops[last - 1] + plan.tile_height >= end,
            "these tiles must cover the rows");
    const fcnkit::Results to = make_results(labels, sure);
    with_logits(scores, [&](const auto* from) {
        const py::gil_scoped_release release;
        fcnkit::upsample_argmax(from, plan, {first, last, top, end}, upsampling,
                                fcnkit::active_table(), bounded, to, threads);
    });
}

bool confusion(const Bytes& target, const Bytes& predicted, unsigned ignore, Counts& counts,
               std::size_t threads) {
    require(size(target) == size(predicted) && threads >= 1, "sizes must agree");
    require(counts.ndim() == 2 && side(counts, 0) >= 1 && side(counts, 0) <= 256 &&
                side(counts, 0) == side(counts, 1),
            "counts must be square, 1..256");
    const std::uint8_t* truth = target.data();
    const std::uint8_t* guess = predicted.data();
    std::int64_t* to = counts.mutable_data();
    const std::size_t pixels = size(target);
    const unsigned classes = static_cast<unsigned>(side(counts, 0));
    const py::gil_scoped_release release;
    return fcnkit::confusion_image(truth, guess, pixels, classes, ignore, to, threads);
}

py::bytes deflate_rows(fcnkit::LabelDeflate& self, const Bytes& labels) {
    require(labels.ndim() == 2 && side(labels, 1) == self.width(), "labels must be rows of width");
    const std::uint8_t* rows = labels.data();
    const std::size_t count = side(labels, 0);
    std::string out;
    {
        const py::gil_scoped_release release;
        self.add(rows, count, out);
    }
    return out;
}

py::bytes end_rows(fcnkit::LabelDeflate& self) {
    std::string out;
    self.end(out);
    return out;
}

#if defined(__clang__)
constexpr const char* kCompiler = "clang " __clang_version__;
#elif defined(__GNUC__)
constexpr const char* kCompiler = "gcc " __VERSION__;
#else
constexpr const char* kCompiler = "unknown";
#endif

#ifdef NDEBUG
constexpr bool kAsserts = false;
#else
constexpr bool kAsserts = true;
#endif

py::dict build_info() {
    py::dict info;
    info["compiler"] = kCompiler;
    info["asserts"] = kAsserts;
    info["variants"] = fcnkit::supported_tables();
    info["active"] = fcnkit::active_table().name;
    return info;
}

}  // namespace

PYBIND11_MODULE(_kernels, m) {
    m.doc() = "fcnkit's C++ kernels; use them through fcnkit.runtime";
    py::class_<fcnkit::Encoder>(m, "Encoder")
        .def(py::init(&make_encoder), py::arg("keys").noconvert(), py::arg("labels").noconvert());
    py::class_<Plan>(m, "Plan").def(py::init(&make_plan)).def_property_readonly("held", &held);
    py::class_<fcnkit::Upsampling>(m, "Upsampling")
        .def(py::init(&make_upsampling), py::arg("weights").noconvert(),
             py::arg("bias").noconvert(), py::arg("stride"), py::arg("edge"))
        .def_property_readonly(
            "gain", [](const fcnkit::Upsampling& self) { return self.layer.gain(); });
    py::class_<fcnkit::Normalize>(m, "Normalize")
        .def(py::init(&make_normalize), py::arg("scale"), py::arg("bias"),
             py::arg("exact").noconvert(), py::arg("exact_half").noconvert());
    py::class_<fcnkit::LabelDeflate>(m, "LabelDeflate")
        .def(py::init([](std::size_t width) {
                 require(width >= 1, "width must be 1 or more");
                 return fcnkit::LabelDeflate(width);
             }),
             py::arg("width"))
        .def("add", &deflate_rows, py::arg("labels").noconvert())
        .def("end", &end_rows);
    m.def("decode", &decode, py::arg("labels").noconvert(), py::arg("palette").noconvert(),
          py::arg("void_color"), py::arg("rgb").noconvert(), py::arg("threads"));
    m.def("encode", &encode, py::arg("rgb").noconvert(), py::arg("encoder"), py::arg("unknown"),
          py::arg("labels").noconvert(), py::arg("threads"));
    m.def("overlay", &overlay, py::arg("image").noconvert(), py::arg("labels").noconvert(),
          py::arg("palette").noconvert(), py::arg("weight"), py::arg("out").noconvert(),
          py::arg("threads"));
    m.def("cut", &cut, py::arg("image").noconvert(), py::arg("plan"), py::arg("out").noconvert(),
          py::arg("threads"));
    m.def("gather", &gather, py::arg("image").noconvert(), py::arg("plan"), py::arg("normalize"),
          py::arg("out").noconvert(), py::arg("threads"));
    m.def("argmax", &argmax, py::arg("logits").noconvert(), py::arg("labels").noconvert(),
          py::arg("threads"));
    m.def("stitch", &stitch, py::arg("logits").noconvert(), py::arg("plan"),
          py::arg("labels").noconvert(), py::arg("sure").noconvert(), py::arg("threads"));
    m.def("add_tile", &add_tile, py::arg("logits").noconvert(), py::arg("plan"), py::arg("i"),
          py::arg("j"), py::arg("below").noconvert(), py::arg("right").noconvert(),
          py::arg("labels").noconvert(), py::arg("sure").noconvert(), py::arg("threads"));
    m.def("largest_score", &largest_score, py::arg("scores").noconvert());
    m.def("upsample_argmax", &upsample_argmax, py::arg("scores").noconvert(), py::arg("plan"),
          py::arg("upsampling"), py::arg("first"), py::arg("top"), py::arg("bounded"),
          py::arg("labels").noconvert(), py::arg("sure").noconvert(), py::arg("threads"));
    m.def("confusion", &confusion, py::arg("target").noconvert(),
          py::arg("predicted").noconvert(), py::arg("ignore"), py::arg("counts").noconvert(),
          py::arg("threads"));
    m.def("build_info", &build_info);
    m.def("select", &fcnkit::select_table, py::arg("name"));
}
