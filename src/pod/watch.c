/* The one thread that hears of exits: each knarr-pod's event connection and its pidfd, in one epoll. It
 * only moves states and writes records; what may block for longer (a dead knarr-pod's containers)
 * gets a thread of its own. */
#include "pod/model.h"

#include "base/log.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { WATCH_EVENTS = 0, WATCH_PROCESS = 1, EPOLL_BATCH = 64 };

/* A pod that has gone since epoll spoke of it is not found: its number is never used again. */
static struct pod *pod_watched(struct pods *ps, uint64_t number)
{
	LOCKED(&ps->lock);

	list_for_each(p, &ps->pod_list, struct pod, in_pods)
		if (p->watch_number == number)
			return pod_ref(p);
	return NULL;
}

static struct container *container_of_event(struct pod *p, const char *id)
{
	LOCKED(&p->all->lock);
	struct container *k = map_get(&p->all->containers, id);

	return k && k->pod == p ? container_ref(k) : NULL;
}

/* 1: the connection has ended. */
static int take_events(struct pod *p)
{
	auto_arena a = { 0 };
	struct monitor_event ev;
	struct err e;
	int rc;

	while ((rc = monitor_event_read(&a, p->event_fd, &ev, &e)) > 0) {
		auto_container *k = container_of_event(p, ev.container_id);

		if (k && container_exited(k, &ev.exit) && container_save(k, &e) < 0)
			log_error("%s", e.msg);
	}
	return rc < 0;
}

static void *died_thread(void *arg)
{
	struct pod *p = arg;
	struct pods *ps = p->all;

	pod_monitor_died(p, "its knarr-pod ended unexpectedly");
	pod_unref(p);
	pods_job_done(ps);
	return NULL;
}

static void monitor_ended(struct pod *p)
{
	struct err e;

	watch_remove(p);
	if (pods_job(p->all, "pod-died", died_thread, pod_ref(p), &e) < 0) {
		log_error("%s", e.msg);
		pod_unref(p);
	}
}

static void handle(struct pods *ps, uint64_t data)
{
	auto_pod *p = pod_watched(ps, data >> 1);

	if (!p)
		return;
	/* The connection first: what it told before it died is true. */
	if (take_events(p) || (data & 1) == WATCH_PROCESS)
		monitor_ended(p);
}

static void *watch_thread(void *arg)
{
	struct pods *ps = arg;
	struct epoll_event ev[EPOLL_BATCH];

	for (;;) {
		int n = epoll_wait(ps->epoll_fd, ev, EPOLL_BATCH, -1);

		if (n < 0 && errno != EINTR)
			BUG("epoll_wait failed");
		for (int i = 0; i < n; i++) {
			if (ev[i].data.u64 == 0)
				return NULL;
			handle(ps, ev[i].data.u64);
		}
	}
}

static int epoll_add(struct pods *ps, int fd, uint64_t data, struct err *e)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = data };

	if (epoll_ctl(ps->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
		return err_sys(e, errno, "epoll");
	return 0;
}

int watch_open(struct pods *ps, struct err *e)
{
	ps->next_watch = 1;
	ps->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	ps->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (ps->epoll_fd < 0 || ps->wake_fd < 0)
		return err_sys(e, errno, "epoll or eventfd");
	if (epoll_add(ps, ps->wake_fd, 0, e) < 0)
		return -1;
	if (thread_start(&ps->watcher, "watch", watch_thread, ps, e) < 0)
		return -1;
	ps->watcher_runs = true;
	return 0;
}

void watch_close(struct pods *ps)
{
	uint64_t one = 1;

	if (ps->watcher_runs) {
		(void)!write(ps->wake_fd, &one, sizeof(one));
		(void)pthread_join(ps->watcher, NULL);
		ps->watcher_runs = false;
	}
	fd_close(&ps->epoll_fd);
	fd_close(&ps->wake_fd);
}

int watch_add(struct pod *p, struct err *e)
{
	struct pods *ps = p->all;
	uint64_t number;

	lock_acquire(&ps->lock);
	number = ps->next_watch++;
	p->watch_number = number;
	lock_release(&ps->lock);
	if (p->event_fd >= 0 && epoll_add(ps, p->event_fd, number << 1 | WATCH_EVENTS, e) < 0)
		return -1;
	if (p->pidfd >= 0 && epoll_add(ps, p->pidfd, number << 1 | WATCH_PROCESS, e) < 0)
		return -1;
	return 0;
}

void watch_remove(struct pod *p)
{
	struct pods *ps = p->all;
	LOCKED(&ps->lock);

	if (!p->watch_number)
		return;
	p->watch_number = 0;
	if (p->event_fd >= 0)
		(void)epoll_ctl(ps->epoll_fd, EPOLL_CTL_DEL, p->event_fd, NULL);
	if (p->pidfd >= 0)
		(void)epoll_ctl(ps->epoll_fd, EPOLL_CTL_DEL, p->pidfd, NULL);
}
