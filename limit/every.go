package limit

import (
	"context"
	"time"
)

// EachSecond calls flush each second, and once more, for 10 seconds at most, when
// ctx ends. Only an error of flush ends it before.
func EachSecond(ctx context.Context, flush func(context.Context) error) error {
	ticker := time.NewTicker(snapshotEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			return flush(last)
		case <-ticker.C:
			if err := flush(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}
