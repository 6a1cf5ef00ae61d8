#include "pod/model.h"

#include <string.h>

void event_push_locked(struct pods *ps, enum pod_event_kind kind, enum pod_owner owner, const char *pod_id,
		       const char *container_id)
{
	struct event_slot *s = &ps->events[ps->next_event % EVENT_RING];

	lock_assert_held(&ps->lock);
	s->event = (struct pod_event){ .number = ps->next_event++, .kind = kind, .owner = owner,
				       .at_wall_ns = clock_wall_ns() };
	memcpy(s->pod_id, pod_id, sizeof(s->pod_id));
	memcpy(s->container_id, container_id, sizeof(s->container_id));
	cond_broadcast(&ps->changed);
}

uint64_t pod_events_next_number(struct pods *ps)
{
	LOCKED(&ps->lock);

	return ps->next_event;
}

int pod_event_wait(struct pods *ps, struct call *c, enum pod_owner owner, uint64_t *from,
		   struct pod_event *out, struct err *e)
{
	LOCKED(&ps->lock);
	uint64_t oldest;

	for (;;) {
		if (pods_check_ready_locked(ps, e) < 0)
			return -1;
		oldest = ps->next_event > EVENT_RING ? ps->next_event - EVENT_RING : 1;
		if (*from < oldest) {
			*from = oldest;
			return err_set(e, ERR_EXHAUSTED, "the listener was too slow, events are lost");
		}
		for (; *from < ps->next_event; ++*from) {
			struct event_slot *s = &ps->events[*from % EVENT_RING];

			if (s->event.owner != owner)
				continue;
			*out = s->event;
			out->pod_id = arena_strdup(&c->arena, s->pod_id);
			out->container_id = arena_strdup(&c->arena, s->container_id);
			++*from;
			return 0;
		}
		if (cond_wait(c, &ps->changed, &ps->lock, e) < 0)
			return -1;
	}
}
