#include "cli/session.h"

#include "base/fd.h"
#include "base/mem.h"
#include "base/thread.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Either knarr-pod tells (a session without streams), and knarrd is asked when there is an answer; or, where it
 * cannot tell (it is older, or the container does not run), a thread waits in knarrd's WaitContainer. */
struct waiter {
	struct cli *cli;
	struct monitor_session session;
	struct client *client;
	struct call call;
	pthread_t thread;
	int done_fd;
	char *container_id;
	int rc;
	struct err e;
	Knarr__V1__WaitContainerResponse *answer;
};

static void wait_ask(struct waiter *w, struct client *client)
{
	Knarr__V1__WaitContainerRequest in = KNARR__V1__WAIT_CONTAINER_REQUEST__INIT;

	in.container_id = w->container_id;
	w->rc = KNARR(client, &w->call, WaitContainer, wait_container, &in, &w->answer, &w->e);
}

static void *wait_run(void *arg)
{
	struct waiter *w = arg;
	uint64_t one = 1;

	wait_ask(w, w->client);
	(void)!write(w->done_fd, &one, sizeof(one)); /* an eventfd takes it */
	return NULL;
}

int waiter_start(struct cli *cli, const char *container_id, struct waiter **out, struct err *e)
{
	Knarr__V1__OpenAttachRequest in = KNARR__V1__OPEN_ATTACH_REQUEST__INIT;
	struct waiter *w = mem_new0(struct waiter);
	struct err cannot;

	call_begin(&w->call, 0);
	w->cli = cli;
	w->session = (struct monitor_session)MONITOR_SESSION_NONE;
	w->container_id = mem_strdup(container_id);
	w->done_fd = -1;
	in.container_id = w->container_id;
	if (session_open_attach(cli, &in, &w->session, &cannot) == 0) {
		*out = w;
		return 0;
	}
	w->done_fd = eventfd(0, EFD_CLOEXEC);
	if (w->done_fd < 0) {
		err_sys(e, errno, "eventfd");
	} else if (client_open(&w->client, &cli->settings, cli->call, e) == 0 &&
		   thread_start(&w->thread, "wait", wait_run, w, e) == 0) {
		*out = w;
		return 0;
	}
	if (w->client)
		client_close(w->client);
	fd_close(&w->done_fd);
	call_end(&w->call);
	mem_free(w->container_id);
	mem_free(w);
	return -1;
}

int waiter_fd(const struct waiter *w)
{
	return w->session.control >= 0 ? w->session.control : w->done_fd;
}

int waiter_result(struct waiter *w, struct call *c, struct waited *out, struct err *e)
{
	if (io_wait(c, waiter_fd(w), POLLIN, e) < 0)
		return -1;
	if (w->session.control >= 0)
		wait_ask(w, w->cli->client);
	if (w->rc < 0) {
		*e = w->e;
		return -1;
	}
	*out = (struct waited){ w->answer->exit_code, w->answer->reason, w->answer->message };
	return 0;
}

void waiter_end(struct waiter *w)
{
	if (!w)
		return;
	if (w->session.control < 0) {
		call_cancel(&w->call);
		(void)pthread_join(w->thread, NULL);
		client_close(w->client);
	}
	monitor_session_close(&w->session);
	fd_close(&w->done_fd);
	call_end(&w->call);
	mem_free(w->container_id);
	mem_free(w);
}
