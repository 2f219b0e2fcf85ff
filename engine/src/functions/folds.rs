//! Accumulators that fold values one by one, for a group each or for all rows.

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, BooleanBufferBuilder,
    PrimitiveArray,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::{not, nullif, prep_null_mask_filter};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use std::sync::Arc;

/// How values are folded: what has been seen so far is an `S`.
pub(super) struct How<T: ArrowPrimitiveType, S> {
    /// What a first value makes.
    pub(super) first: fn(T::Native) -> S,
    /// What another one makes of it.
    pub(super) next: fn(&mut S, T::Native),
    /// As it is told, between workers and in the end.
    pub(super) told: fn(S) -> Result<T::Native>,
}

impl<T: ArrowPrimitiveType, S> Clone for How<T, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ArrowPrimitiveType, S> Copy for How<T, S> {}

/// A fold for each group. Groups without a value are null.
pub(super) struct Groups<T: ArrowPrimitiveType, S> {
    how: How<T, S>,
    kind: DataType,
    seen: Vec<Option<S>>,
}

impl<T: ArrowPrimitiveType, S: Copy> Groups<T, S> {
    pub(super) fn new(how: How<T, S>, kind: DataType) -> Self {
        Self {
            how,
            kind,
            seen: Vec::new(),
        }
    }

    fn fold(&mut self, group: usize, value: T::Native) {
        match self.seen.get_mut(group) {
            Some(Some(seen)) => (self.how.next)(seen, value),
            Some(none) => *none = Some((self.how.first)(value)),
            None => {}
        }
    }
}

/// The one argument, or the one state.
fn only(values: &[ArrayRef]) -> Result<&ArrayRef> {
    match values {
        [values] => Ok(values),
        _ => internal_err!("a fold takes one column, not {}", values.len()),
    }
}

impl<T, S> GroupsAccumulator for Groups<T, S>
where
    T: ArrowPrimitiveType,
    S: Copy + Send + 'static,
{
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.seen.resize(total.max(self.seen.len()), None);
        let values = only(values)?.as_primitive::<T>();
        let counts =
            |row: usize| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        for (row, (value, group)) in values.iter().zip(groups).enumerate() {
            if let Some(value) = value
                && counts(row)
            {
                self.fold(*group, value);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let seen = emit.take_needed(&mut self.seen);
        let mut valid = BooleanBufferBuilder::new(seen.len());
        let mut values = Vec::with_capacity(seen.len());
        for one in seen {
            valid.append(one.is_some());
            values.push(match one {
                Some(one) => (self.how.told)(one)?,
                None => T::Native::default(),
            });
        }
        let nulls = NullBuffer::new(valid.finish());
        let values = PrimitiveArray::<T>::new(values.into(), Some(nulls));
        Ok(Arc::new(values.with_data_type(self.kind.clone())))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit)?])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.update_batch(values, groups, None, total)
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let values = only(values)?;
        Ok(vec![match filter {
            None => Arc::clone(values),
            Some(filter) => {
                let counts = match filter.null_count() {
                    0 => filter.clone(),
                    _ => prep_null_mask_filter(filter),
                };
                nullif(values, &not(&counts)?)?
            }
        }])
    }

    fn size(&self) -> usize {
        self.seen.capacity() * size_of::<Option<S>>()
    }
}

/// A fold of all rows.
pub(super) struct All<T: ArrowPrimitiveType, S> {
    groups: Groups<T, S>,
}

impl<T: ArrowPrimitiveType, S: Copy> All<T, S> {
    pub(super) fn new(how: How<T, S>, kind: DataType) -> Self {
        let mut groups = Groups::new(how, kind);
        groups.seen.push(None);
        Self { groups }
    }
}

impl<T: ArrowPrimitiveType, S> std::fmt::Debug for All<T, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("All").finish_non_exhaustive()
    }
}

impl<T, S> Accumulator for All<T, S>
where
    T: ArrowPrimitiveType,
    S: Copy + Send + Sync + 'static,
{
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in only(values)?.as_primitive::<T>().iter().flatten() {
            self.groups.fold(0, value);
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let kind = &self.groups.kind;
        match self.groups.seen.first().copied().flatten() {
            None => ScalarValue::try_from(kind),
            Some(seen) => {
                let told = (self.groups.how.told)(seen)?;
                ScalarValue::new_primitive::<T>(Some(told), kind)
            }
        }
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }
}
