// Runs a max-min problem in SimGrid and prints the time inside its simulation loop.
// g++ -O2 simgrid.cpp -o simgrid -lsimgrid; ./simgrid problem.txt
// problem.txt: links flows; a capacity a line; then a line a flow: bytes start count link…
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include <simgrid/s4u.hpp>

namespace sg4 = simgrid::s4u;

int main(int argc, char** argv) {
  sg4::Engine engine(&argc, argv);
  for (const char* option : {"network/model:CM02", "network/TCP-gamma:0", "network/crosstraffic:0",
                             "network/bandwidth-factor:1", "network/latency-factor:1", "network/weight-S:0"})
    engine.set_config(option);
  FILE* file = argc > 1 ? fopen(argv[1], "r") : nullptr;
  size_t links = 0, flows = 0;
  if (!file || fscanf(file, "%zu %zu", &links, &flows) != 2) return 1;
  auto* zone = sg4::create_full_zone("z");
  std::vector<const sg4::Link*> link(links);
  for (size_t i = 0; i < links; i++) {
    double capacity;
    if (fscanf(file, "%lf", &capacity) != 1) return 1;
    link[i] = zone->create_link("l" + std::to_string(i), capacity)->set_latency(0)->seal();
  }
  for (size_t i = 0; i < flows; i++) {
    double bytes, start;
    size_t count;
    if (fscanf(file, "%lf %lf %zu", &bytes, &start, &count) != 3) return 1;
    std::vector<const sg4::Link*> path(count);
    for (auto& one : path) {
      size_t at;
      if (fscanf(file, "%zu", &at) != 1) return 1;
      one = link[at];
    }
    auto* from = zone->create_host("a" + std::to_string(i), 1e9)->seal();
    auto* to = zone->create_host("b" + std::to_string(i), 1e9)->seal();
    zone->add_route(from->get_netpoint(), to->get_netpoint(), nullptr, nullptr,
                    std::vector<sg4::LinkInRoute>(path.begin(), path.end()), false);
    sg4::Actor::create("f" + std::to_string(i), from, [=] {
      sg4::this_actor::sleep_for(start);
      sg4::Comm::sendto(from, to, bytes);
    });
  }
  zone->seal();
  const auto begin = std::chrono::steady_clock::now();
  engine.run();
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
  printf("simgrid %.3f ms, makespan %.9f s\n", took.count(), sg4::Engine::get_clock());
}
