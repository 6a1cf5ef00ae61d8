/* A pod model in a folder of its own, over the fakes; what a test says in one word. Each function fails
 * the test where the model fails. */
#ifndef KNARR_TESTS_WORLD_H
#define KNARR_TESTS_WORLD_H

#include "pod/pod.h"
#include "store/catalog.h"

struct world {
	char root[64];
	struct arena arena;
	struct catalog *catalog;
	struct pods *pods;
};

void world_begin(struct world *w);
void world_end(struct world *w);
/* knarrd ends and starts; what runs goes on. */
void world_stop(struct world *w);
void world_start(struct world *w);

struct pod_config pod_named(const char *name);
struct container_config container_named(const char *name);
const char *world_run(struct world *w, const struct pod_config *config);
const char *world_create(struct world *w, const char *pod, const char *name);
void world_start_container(struct world *w, const char *id);
/* Stops and removes it, each twice. */
void world_remove_pod(struct world *w, const char *pod);
/* Waits for the state, and returns what the container is then; good for its values only. */
struct container_view world_await(struct world *w, const char *id, enum container_state state);
enum pod_state world_pod_state(struct world *w, const char *id);
size_t world_listed_pods(struct world *w, enum pod_owner owner);
/* How many things lie in a folder below the root. */
size_t world_entries(struct world *w, const char *folder);
size_t world_records(struct world *w); /* in the catalog */
void assert_nothing_remains(struct world *w);

#endif
