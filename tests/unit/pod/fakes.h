/* The rooms beneath the pod model, played: a knarr-pod without a process, images and CNI without
 * effects but counters, cgroups that exist in name only. What is left at the end can be counted. */
#ifndef KNARR_TESTS_FAKES_H
#define KNARR_TESTS_FAKES_H

#include <stdatomic.h>
#include "pod/pod.h"

struct fake_facts {
	int monitors;            /* knarr-pods that live */
	int snapshots;
	int networks;
	int cgroups;
	int starts, signals, kills, dels;
	/* what is to go wrong */
	atomic_bool net_add_fails, net_del_fails, start_fails, monitor_mute; /* read by knarrd's threads */
	atomic_int net_add_ms;          /* how long ADD takes; it heeds its call */
	atomic_bool ignores_term;       /* containers end only when killed */
};
struct fake_facts *fakes_shared(void);
#define fakes (*fakes_shared())

/* A container of a fake knarr-pod ends by itself; the event is told. */
void fake_container_exits(const char *id, int code, bool oom);
/* All fake knarr-pods die, without a word. */
void fake_monitors_die(void);
void fakes_reset(void);
/* After a child that played a knarrd has died. */
void fakes_after_crash(void);

#endif
