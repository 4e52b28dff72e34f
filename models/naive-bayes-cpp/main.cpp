// Gaussian naive Bayes behind etcbench-model-1, without libraries.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

using Values = std::vector<double>;

// The text after a key of one request; of keys that are there twice (training, validation) the first after `from`. Requests are
// JSON of a fixed form, and the keys that are read here are words that no path or class name is followed by `":`.
static std::string after(const std::string &line, const std::string &key, size_t from = 0) {
    size_t at = line.find("\"" + key + "\":", from);
    if (at == std::string::npos) throw std::runtime_error("no key " + key);
    return line.substr(at + key.size() + 3);
}

static std::string text(const std::string &line, const std::string &key, size_t from = 0) {
    std::string rest = after(line, key, from), value;
    for (size_t at = 1; rest[at] != '"'; at++) value += rest[at] == '\\' ? rest[++at] : rest[at];
    return value;
}

// How many texts a list has.
static size_t count(const std::string &line, const std::string &key) {
    std::string rest = after(line, key);
    size_t texts = 0;
    bool inside = false;
    for (size_t at = 0; inside || rest[at] != ']'; at++) {
        if (inside && rest[at] == '\\') at++;
        else if (rest[at] == '"' && (inside = !inside)) texts++;
    }
    return texts;
}

// An array of any of the four types as numbers.
static Values read(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    std::string content((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    if (content.size() < 10) throw std::runtime_error(path + ": cannot be read");
    size_t start = 10 + static_cast<uint8_t>(content[8]) + 256 * static_cast<uint8_t>(content[9]);
    std::string type = content.substr(content.find("descr") + 9, 3);
    Values values;
    auto take = [&](auto value) {
        for (size_t at = start; at < content.size(); at += sizeof value) {
            std::memcpy(&value, &content[at], sizeof value);
            values.push_back(value);
        }
    };
    if (type == "<u2") take(uint16_t());
    else if (type == "<u4") take(uint32_t());
    else if (type == "<f4") take(float());
    else if (type == "<f8") take(double());
    else throw std::runtime_error(path + ": type " + type);
    return values;
}

static void write(const std::string &path, const Values &values, size_t columns) {
    std::string header = "{'descr': '<f8', 'fortran_order': False, 'shape': (" + std::to_string(values.size() / columns) + ", " +
                         std::to_string(columns) + "), }";
    header.resize((header.size() + 11 + 63) / 64 * 64 - 11, ' ');
    std::ofstream file(path, std::ios::binary);
    file << std::string("\x93NUMPY\x01\0", 8) << static_cast<char>((header.size() + 1) % 256)
         << static_cast<char>((header.size() + 1) / 256) << header << '\n';
    file.write(reinterpret_cast<const char *>(values.data()), static_cast<std::streamsize>(8 * values.size()));
    if (!file.flush()) throw std::runtime_error(path + ": cannot be written");
}

struct NaiveBayes {
    size_t classes = 0, columns = 0;
    Values share, mean, variance; // [classes], [classes, columns], [classes, columns]

    void fit(const Values &rows, const Values &labels, size_t of, double smoothing) {
        classes = of, columns = rows.size() / labels.size();
        share.assign(classes, 0), mean.assign(classes * columns, 0), variance = mean;
        for (double label : labels) share[static_cast<size_t>(label)]++;
        auto each = [&](auto add) {
            for (size_t row = 0; row < labels.size(); row++)
                for (size_t column = 0; column < columns; column++)
                    add(static_cast<size_t>(labels[row]) * columns + column, rows[row * columns + column]);
        };
        auto divide = [&](Values &values) {
            for (size_t at = 0; at < values.size(); at++) values[at] /= std::max(share[at / columns], 1.0);
        };
        each([&](size_t at, double value) { mean[at] += value; });
        divide(mean);
        each([&](size_t at, double value) { variance[at] += (value - mean[at]) * (value - mean[at]); });
        divide(variance);
        double largest = 0;
        for (size_t column = 0; column < columns; column++) {
            double sum = 0, squares = 0;
            for (size_t row = 0; row < labels.size(); row++) sum += rows[row * columns + column];
            double middle = sum / static_cast<double>(labels.size());
            for (size_t row = 0; row < labels.size(); row++) squares += std::pow(rows[row * columns + column] - middle, 2);
            largest = std::max(largest, squares / static_cast<double>(labels.size()));
        }
        // Columns that are all constant have no variance to take a share of.
        for (double &value : variance) value += smoothing * (largest > 0 ? largest : 1);
        for (double &value : share) value /= static_cast<double>(labels.size());
    }

    Values predict(const Values &rows) const {
        Values answer;
        for (size_t start = 0; start < rows.size(); start += columns) {
            Values scores(classes, -std::numeric_limits<double>::infinity());
            for (size_t name = 0; name < classes; name++) {
                if (share[name] == 0) continue;
                double score = std::log(share[name]);
                for (size_t column = 0; column < columns; column++) {
                    size_t at = name * columns + column;
                    double away = rows[start + column] - mean[at];
                    score -= 0.5 * (std::log(2 * M_PI * variance[at]) + away * away / variance[at]);
                }
                scores[name] = score;
            }
            double best = *std::max_element(scores.begin(), scores.end()), sum = 0;
            for (double &score : scores) sum += score = std::exp(score - best);
            for (double score : scores) answer.push_back(score / sum);
        }
        return answer;
    }
};

int main() {
    NaiveBayes model;
    std::string line;
    while (std::getline(std::cin, line)) {
        std::string message = text(line, "message");
        auto rows = [&](size_t from) {
            for (const char *name : {"statistics", "bytes", "sequences"})
                if (line.find("\"" + std::string(name) + "\":", from) != std::string::npos) return read(text(line, name, from));
            throw std::runtime_error("no array");
        };
        if (message == "describe") {
            std::cout << R"({"message":"description","protocol":"etcbench-model-1","inputs":["statistics","bytes","sequences"],)"
                      << R"("deterministic":true})" << std::endl;
        } else if (message == "fit") {
            size_t from = line.find("\"training\":");
            double smoothing = std::stod(after(line, "smoothing"));
            model.fit(rows(from), read(text(line, "labels", from)), count(line, "class_names"), smoothing);
            std::cout << R"({"message":"fitted"})" << std::endl;
        } else if (message == "predict") {
            write(text(line, "answer"), model.predict(rows(0)), model.classes);
            std::cout << R"({"message":"predicted"})" << std::endl;
        } else if (message == "save") {
            std::string folder = text(line, "folder");
            write(folder + "/share.npy", model.share, model.classes);
            write(folder + "/mean.npy", model.mean, model.columns);
            write(folder + "/variance.npy", model.variance, model.columns);
            std::cout << R"({"message":"saved"})" << std::endl;
        } else if (message == "load") {
            std::string folder = text(line, "folder");
            model.share = read(folder + "/share.npy"), model.mean = read(folder + "/mean.npy");
            model.variance = read(folder + "/variance.npy");
            model.classes = model.share.size(), model.columns = model.mean.size() / model.classes;
            std::cout << R"({"message":"loaded"})" << std::endl;
        } else if (message == "quit") {
            return 0;
        }
    }
}
