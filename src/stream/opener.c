/* Threads for what may block: to begin an exec, to connect to a port. They come with the work and go with it. */
#include "stream/loop.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { THREADS_MAX = 32, OPEN_LIMIT_S = 120 };

int opener_init(struct opener *o, struct err *e)
{
	*o = (struct opener){ .event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
	lock_init(&o->lock);
	cond_init(&o->idle);
	list_init(&o->queue);
	list_init(&o->done);
	return o->event_fd < 0 ? err_sys(e, errno, "eventfd") : 0;
}

struct opening *opening_new(struct streams *s, struct ticket *t, void (*done)(struct opening *o), void *owner)
{
	struct opening *o = mem_new0(struct opening);

	*o = (struct opening){ .server = s, .ticket = t, .done = done, .owner = owner, .session = SESSION_NONE, .fd = -1 };
	ticket_ref(t);
	call_begin(&o->call, clock_mono_ns() + OPEN_LIMIT_S * NS_PER_S);
	return o;
}

static void opening_free(struct opening *o)
{
	session_end(&o->session);
	fd_close(&o->fd);
	call_end(&o->call);
	ticket_unref(o->ticket);
	mem_free(o);
}

static void run(struct opening *o)
{
	struct session_wish wish = o->ticket->wish;

	wish.width = o->width;
	wish.height = o->height;
	if (o->ticket->kind == TICKET_EXEC)
		o->rc = session_exec(o->server->pods, &o->call, &wish, &o->session, &o->e);
	else if (o->ticket->kind == TICKET_ATTACH)
		o->rc = session_attach(o->server->pods, &o->call, &wish, &o->session, &o->e);
	else
		o->rc = session_port(o->server->pods, &o->call, o->ticket->owner, o->ticket->ports.pod_id, o->port, &o->fd,
				     &o->e);
}

static struct opening *take_or_leave(struct opener *o)
{
	struct opening *next;
	LOCKED(&o->lock);

	if (list_is_empty(&o->queue)) {
		o->threads--;
		cond_broadcast(&o->idle);
		return NULL;
	}
	next = container_of(o->queue.next, struct opening, link);
	list_del(&next->link);
	return next;
}

static void *work(void *arg)
{
	struct opener *all = arg;
	struct opening *o;

	while ((o = take_or_leave(all))) {
		run(o);
		lock_acquire(&all->lock);
		list_add(&all->done, &o->link);
		(void)eventfd_write(all->event_fd, 1); /* fails only when it is readable anyway */
		lock_release(&all->lock);
	}
	return NULL;
}

void opening_submit(struct opening *o)
{
	struct opener *all = &o->server->opener;
	pthread_t thread;
	struct err e;
	LOCKED(&all->lock);

	all->unfinished++;
	if (all->threads < THREADS_MAX && thread_start(&thread, "knarrd-open", work, all, &e) == 0) {
		(void)pthread_detach(thread);
		all->threads++;
	} else if (!all->threads) {
		o->rc = -1;
		o->e = e;
		list_add(&all->done, &o->link);
		(void)eventfd_write(all->event_fd, 1);
		return;
	}
	list_add(&all->queue, &o->link);
}

void opening_abandon(struct opening **o)
{
	if (!*o)
		return;
	(*o)->done = NULL;
	call_cancel(&(*o)->call);
	*o = NULL;
}

void opener_collect(struct streams *s)
{
	struct opener *all = &s->opener;
	eventfd_t count;

	(void)eventfd_read(all->event_fd, &count);
	for (;;) {
		struct opening *o = NULL;

		lock_acquire(&all->lock);
		if (!list_is_empty(&all->done)) {
			o = container_of(all->done.next, struct opening, link);
			list_del(&o->link);
			all->unfinished--;
		}
		lock_release(&all->lock);
		if (!o)
			return;
		if (o->done)
			o->done(o);
		opening_free(o);
	}
}

void opener_free(struct opener *o)
{
	struct err e;

	lock_acquire(&o->lock);
	while (o->threads)
		(void)cond_wait(NULL, &o->idle, &o->lock, &e); /* without a call it cannot fail */
	lock_release(&o->lock);
	cond_destroy(&o->idle);
	lock_destroy(&o->lock);
	fd_close(&o->event_fd);
}
